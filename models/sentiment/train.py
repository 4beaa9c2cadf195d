"""Makes every file of this folder from the human ratings in the Python package vaderSentiment.

A text becomes tokens. A token becomes a short vector of learned numbers and one rated number, the valence of the word
in VADER's lexicon. A convolution reads two neighbours at a time ("not good", "very bad"). The largest and the mean
response of each filter decide. The network is trained in JAX and written by hand as an ONNX graph. Every figure of the
model card is measured by running that graph.

    pip install -r requirements.txt
    python train.py               # writes model.onnx, tokenizer.json, config.json, metrics.json, golden.jsonl, LICENSE
    python train.py --validate    # trains without the validation split and prints the figures on it; writes nothing
"""

import os

# With one thread, sums always have the same order, and the same seed gives the same weights.
os.environ["OMP_NUM_THREADS"] = "1"
os.environ["XLA_FLAGS"] = "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"

import collections
import dataclasses
import hashlib
import html
import io
import json
import math
import pathlib
import random
import re
import subprocess
import sys
import tarfile
import tempfile

import jax
import jax.numpy as jnp
import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper
from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, processors, trainers
from vaderSentiment.vaderSentiment import SentimentIntensityAnalyzer

HERE = pathlib.Path(__file__).parent
PACKAGE = "vaderSentiment==3.3.2"
SDIST_SHA256 = "5d7c06e027fc8b99238edb0d53d970cf97066ef97654009890b83703849632f9"
SEED = 1
LABELS = ["negative", "neutral", "positive"]
NEGATIVE, NEUTRAL, POSITIVE = range(3)
MAX_TOKENS = 256

# Our name for each rated set, and its file in the package.
SOURCES = {
    "tweets": "tweets_GroundTruth.txt",
    "products": "amazonReviewSnippets_GroundTruth.txt",
    "movies": "movieReviewSnippets_GroundTruth.txt",
    "editorials": "nytEditorialSnippets_GroundTruth.txt",
}
FOLDS, TEST_FOLDS, VALIDATION_FOLDS = 20, range(0, 3), range(3, 6)


# ---- Data ------------------------------------------------------------------------------------------------------------


@dataclasses.dataclass
class Text:
    source: str
    group: str  # the same for all texts of one review or one article, which all go to the same side of the split
    rating: float  # the mean over the raters, -4 to 4
    text: str
    fold: int = -1

    @property
    def label(self):
        """Returns the class of the mean rating. Less than half a step from 0 is neutral."""
        return NEGATIVE if self.rating <= -0.5 else POSITIVE if self.rating >= 0.5 else NEUTRAL


def download():
    """Downloads the source archive of the package through pip. The wheel does not contain the rated texts."""
    with tempfile.TemporaryDirectory() as folder:
        pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--no-binary", ":all:"]
        pip += [PACKAGE, "--dest", folder]
        subprocess.run(pip, check=True)
        archive = next(pathlib.Path(folder).glob("*.tar.gz")).read_bytes()
    assert hashlib.sha256(archive).hexdigest() == SDIST_SHA256, (
        "the archive differs from the one that this model was made from"
    )
    files = {}
    with tarfile.open(fileobj=io.BytesIO(archive)) as outer:
        for member in outer.getmembers():
            if member.isfile():
                files[pathlib.PurePath(member.name).name] = outer.extractfile(member).read()
    with tarfile.open(fileobj=io.BytesIO(files["hutto_ICWSM_2014.tar.gz"])) as inner:
        for name in SOURCES.values():
            files[name] = inner.extractfile(f"hutto_ICWSM_2014/{name}").read()
    return files


def read_texts(files):
    texts = []
    for source, name in SOURCES.items():
        for line in files[name].decode("utf-8-sig").splitlines():
            if line.strip():
                identifier, rating, text = line.split("\t")
                texts.append(Text(source, identifier.split("_")[0], float(rating), html.unescape(text).strip()))
    return texts


def assign_folds(texts):
    """Divides whole groups between the folds. Each fold gets its share of each class of each source."""
    shuffle = random.Random(SEED)
    for source in SOURCES:
        groups = collections.defaultdict(list)
        for text in texts:
            if text.source == source:
                groups[text.group].append(text)
        order = sorted(groups)
        shuffle.shuffle(order)
        order.sort(key=lambda group: -len(groups[group]))
        counts = {group: np.bincount([t.label for t in members], minlength=3) for group, members in groups.items()}
        total = sum(counts.values())
        filled = np.zeros((FOLDS, 3))
        for group in order:
            excess = lambda n: ((n / total - 1 / FOLDS) ** 2).sum(axis=1)
            fold = int(np.argmin(excess(filled + counts[group]) - excess(filled)))
            filled[fold] += counts[group]
            for text in groups[group]:
                text.fold = fold


def split(texts):
    """Returns (train, validation, test). A text of the test split is dropped from the others, and one of validation
    from train."""
    words = lambda text: " ".join(re.findall(r"\w+", text.text.lower()))
    test = [t for t in texts if t.fold in TEST_FOLDS]
    seen = {words(t) for t in test}
    rest = [t for t in texts if t.fold not in TEST_FOLDS and words(t) not in seen]
    validation = [t for t in rest if t.fold in VALIDATION_FOLDS]
    seen = {words(t) for t in validation}
    train = [t for t in rest if t.fold not in VALIDATION_FOLDS and words(t) not in seen]
    return train, validation, test


def read_lexicon(files):
    """Returns a map from a word or emoticon in lower case to its mean human rating, -4 to 4."""
    lexicon = {}
    for line in files["vader_lexicon.txt"].decode().splitlines():
        word, rating = line.split("\t")[:2]
        lexicon.setdefault(word.strip().lower(), float(rating))
    return lexicon


# ---- Tokenizer -------------------------------------------------------------------------------------------------------

PAD, UNKNOWN, START = range(3)
SPECIAL = ["[PAD]", "[UNK]", "[CLS]"]
LETTERS = "abcdefghijklmnopqrstuvwxyz0123456789"
MARKS = ["!", "!!", "!!!", "?", "??", "???", "!?", "?!", "..", "...", "...."]


def normalizer():
    return normalizers.Sequence(
        [
            normalizers.BertNormalizer(clean_text=True, handle_chinese_chars=False, strip_accents=True, lowercase=True),
            normalizers.Replace(Regex(r"https?://\S+|www\.\S+"), " http "),
            normalizers.Replace(Regex(r"@\w+"), " @ "),
            normalizers.Replace("\u2019", "'"),
            normalizers.Replace("n't", " not"),
            normalizers.Replace(Regex("[\U0001f3fb-\U0001f3ff]"), ""),  # skin tones
        ]
    )


def emoticons(lexicon):
    """Returns the lexicon's emoticons, longest first, without those that are common in paths, code and lists: `:\\`,
    `:[`, `8)`."""
    wanted = (w for w in lexicon if re.fullmatch(r"[:;=<>][^\s\[\]{}\\]*([^\w\s\[\]{}\\]|[dpoxc3])", w))
    return sorted(wanted, key=lambda w: (-len(w), w))


def pre_tokenizer(emoticons):
    """Returns a pattern of words, numbers, emoticons, runs of marks, and other single characters. It needs no
    look-around."""
    escaped = (re.sub(r"[.*+?()|^$]", r"\\\g<0>", e) + (r"\b" if e[-1].isalnum() else "") for e in emoticons)
    pattern = "|".join([*escaped, r"[!?]+", r"\.\.+", r"\p{L}+", r"\p{N}+", r"[^\s\p{L}\p{N}]"])
    return pre_tokenizers.Split(Regex(pattern), "removed", invert=True)


def build_tokenizer(train, lexicon, files):
    """Returns the tokenizer and the rating of each token that has one."""
    faces = emoticons(lexicon)
    normal, pieces = normalizer(), pre_tokenizer(faces)
    words = lambda text: [word for word, _ in pieces.pre_tokenize_str(normal.normalize_str(text))]
    count = collections.Counter(word for t in train for word in words(t.text))

    ratings = {word: rating for word, rating in lexicon.items() if words(word) == [word]}
    # An emoji has no rating. It gets the sum of the ratings of the words in its name ("smiling face with heart-eyes").
    for line in files["emoji_utf8_lexicon.txt"].decode().splitlines():
        emoji, name = line.split("\t")
        rated = [ratings[word] for word in words(name) if word in ratings]
        symbol = words(emoji)
        if rated and len(symbol) == 1 and symbol[0] not in ratings:
            ratings[symbol[0]] = float(np.clip(sum(rated), -4, 4))

    fragments = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    fragments.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    trainer = trainers.WordPieceTrainer(vocab_size=3000, min_frequency=3, show_progress=False)
    plain = sorted(word for word in count if word.isascii() and word.isalpha())
    fragments.train_from_iterator((" ".join([word] * count[word]) for word in plain), trainer)

    vocabulary = [*SPECIAL, *LETTERS, *("##" + c for c in LETTERS + "!?."), *MARKS, *faces, *ratings]
    vocabulary += [word for word, n in count.items() if n >= 2 and (len(word) == 1 or word[0].isalnum())]
    vocabulary += sorted(fragments.get_vocab())
    ids = {token: i for i, token in enumerate(dict.fromkeys(vocabulary))}

    tokenizer = Tokenizer(models.WordPiece(ids, unk_token="[UNK]", max_input_chars_per_word=64))
    tokenizer.normalizer, tokenizer.pre_tokenizer = normal, pieces
    tokenizer.add_special_tokens(SPECIAL)
    # [CLS] comes first, so that a text without words still has one token.
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A", pair="[CLS] $A $B:1", special_tokens=[("[CLS]", START)]
    )
    return tokenizer, {tokenizer.token_to_id(word): rating for word, rating in ratings.items()}


def encode(tokenizer, texts):
    return [e.ids for e in tokenizer.encode_batch(texts)]


# ---- Network ---------------------------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Settings:
    """The settings, chosen on the validation split; see the card."""

    members: int = 2  # networks trained from different seeds; their logits are averaged
    learned: int = 12  # learned numbers per token and member, in addition to its rating
    filters: int = 64
    width: int = 2  # tokens that a filter reads
    epochs: int = 4
    batch: int = 64
    rate: float = 3e-3
    decay: float = 0.02
    softness: float = 0.25  # assumed standard deviation of the noise in a mean rating; 0 gives hard labels
    balance: float = 0.8  # 0: all texts have the same weight; 1: all classes have the same weight
    lexicon_weight: float = 1.0  # weight of a word of the lexicon as a text of its own; a rated text has 1
    drop_features: float = 0.5
    # Share of tokens whose learned numbers are hidden in training: unseen words only have a rating.
    drop_learned: float = 0.2
    drop_token: float = 0.1


SETTINGS = Settings()
# Training batches are padded to one of these lengths; in training only, longer texts are cut.
LENGTHS = [4, 16, 24, 32, 64]


def soft_label(rating):
    """Computes the probability of each class if the mean rating has normal noise."""
    below = lambda limit: 0.5 * (1 + math.erf((limit - rating) / (SETTINGS.softness * math.sqrt(2))))
    return [below(-0.5), below(0.5) - below(-0.5), 1 - below(0.5)]


def padded(rows, length):
    ids, mask = np.full((len(rows), length), PAD, np.int32), np.zeros((len(rows), length), np.float32)
    for i, row in enumerate(rows):
        row = row[:length]
        ids[i, : len(row)], mask[i, : len(row)] = row, 1
    return ids, mask


def forward(weights, rating, ids, mask, key):
    """Runs the training pass of one member. ids, mask: [batch, length]. Returns logits [batch, 3]."""
    s = SETTINGS
    keep_learned, keep_token, keep_feature = jax.random.split(key, 3)
    kept = lambda key, drop, shape: jax.random.bernoulli(key, 1 - drop, shape).astype(jnp.float32)
    learned = weights["embedding"][ids] * kept(keep_learned, s.drop_learned, (*ids.shape, 1))
    x = jnp.concatenate([learned, rating[ids][..., None]], axis=-1)
    x = x * kept(keep_token, s.drop_token, (*ids.shape, 1)) * mask[..., None]
    x = jnp.pad(x, ((0, 0), ((s.width - 1) // 2, s.width // 2), (0, 0)))
    y = sum(x[:, i : i + ids.shape[1]] @ weights["filters"][i] for i in range(s.width)) + weights["filter_bias"]
    y = jax.nn.relu(y) * mask[..., None]
    features = jnp.concatenate([y.max(axis=1), y.sum(axis=1) / mask.sum(axis=1, keepdims=True)], axis=-1)
    features = features * kept(keep_feature, s.drop_features, features.shape) / (1 - s.drop_features)
    return features @ weights["output"] + weights["bias"]


def train_member(seed, rating, rows, targets, importance):
    """Trains by AdamW with warm-up and cosine decay. rows: token ids; targets: [n, 3]; importance: [n]."""
    s = SETTINGS
    rng = np.random.default_rng(seed)
    normal = lambda spread, *shape: rng.normal(0, spread, shape).astype(np.float32)
    weights = {
        "embedding": normal(0.1, len(rating), s.learned),
        "filters": normal(1 / math.sqrt(s.width * (s.learned + 1)), s.width, s.learned + 1, s.filters),
        "filter_bias": np.zeros(s.filters, np.float32),
        "output": normal(1 / math.sqrt(2 * s.filters), 2 * s.filters, 3),
        "bias": np.zeros(3, np.float32),
    }
    first = {name: np.zeros_like(w) for name, w in weights.items()}
    second = {name: np.zeros_like(w) for name, w in weights.items()}
    rating = jnp.asarray(rating)

    def loss(weights, ids, mask, target, importance, key):
        log_p = jax.nn.log_softmax(forward(weights, rating, ids, mask, key))
        return -(importance * (target * log_p).sum(axis=-1)).mean()

    @jax.jit
    def update(weights, first, second, t, rate, key, *batch):
        slope = jax.grad(loss)(weights, *batch, key)
        for name, g in slope.items():
            first[name] = 0.9 * first[name] + 0.1 * g
            second[name] = 0.99 * second[name] + 0.01 * g * g
            move = first[name] / (1 - 0.9**t) / (jnp.sqrt(second[name] / (1 - 0.99**t)) + 1e-6)
            shrink = 0.0 if name.endswith("bias") else s.decay
            weights[name] = weights[name] - rate * (move + shrink * weights[name])
        return weights, first, second

    bucket = np.searchsorted(LENGTHS, [min(len(row), LENGTHS[-1]) for row in rows])
    per_epoch = len(rows) // s.batch
    t, end = 0, s.epochs * per_epoch
    for _ in range(s.epochs):
        order = rng.permutation(len(rows))
        order = order[np.argsort(bucket[order], kind="stable")]
        skip = rng.integers(0, len(rows) - per_epoch * s.batch + 1)
        for b in rng.permutation(per_epoch):
            chosen = order[skip + b * s.batch : skip + (b + 1) * s.batch]
            ids, mask = padded([rows[i] for i in chosen], LENGTHS[bucket[chosen].max()])
            t += 1
            rate = s.rate * min(1, t / 200) * 0.5 * (1 + math.cos(math.pi * t / (end + 1)))
            key = jax.random.key(seed * 1_000_000 + t)
            weights, first, second = update(
                weights, first, second, float(t), rate, key, ids, mask, targets[chosen], importance[chosen]
            )
    return {name: np.asarray(w) for name, w in weights.items()}


def train_network(tokenizer, ratings, texts):
    """Returns the members' weights, and the halved rating of every token, which is about as large as the learned
    numbers."""
    s = SETTINGS
    rating = np.zeros(tokenizer.get_vocab_size(), np.float32)
    rating[list(ratings)] = np.array(list(ratings.values())) / 2

    targets = [soft_label(t.rating) for t in texts]
    share = np.bincount([t.label for t in texts], minlength=3) / len(texts)
    importance = np.array(targets) @ (1 / share) ** s.balance
    importance = list(importance / importance.mean())
    rows = encode(tokenizer, [t.text for t in texts])

    rows += [[START, token] for token in ratings]
    targets += [soft_label(r) for r in ratings.values()]
    importance += [s.lexicon_weight] * len(ratings)
    # A text without words is neutral, and so are words in a script that is not in the vocabulary.
    rows += [[START] + [UNKNOWN] * (i % 5) for i in range(50)]
    targets += [[0.02, 0.96, 0.02]] * 50
    importance += [1.0] * 50

    targets, importance = np.array(targets, np.float32), np.array(importance, np.float32)
    return [train_member(SEED + i, rating, rows, targets, importance) for i in range(s.members)], rating


# ---- ONNX graph ------------------------------------------------------------------------------------------------------


def build_graph(members, rating):
    """Joins the members in one network: one table has their numbers per token, and one convolution their filters.

    Padding has no effect. Masked tokens are zero vectors, like the positions beyond the ends of a text. After Relu, a
    masked response of zero changes neither the largest response nor the sum.
    """
    s, n = SETTINGS, len(members)
    table = np.concatenate([*(m["embedding"] for m in members), rating[:, None]], axis=1)
    scale = np.abs(table).max(axis=0) / 127
    filters = np.zeros((n * s.filters, n * s.learned + 1, s.width), np.float32)
    output = np.zeros((2 * n * s.filters, 3), np.float32)
    for i, m in enumerate(members):
        kernel = m["filters"].transpose(2, 1, 0)  # [width, in, out] -> [out, in, width]
        mine = slice(i * s.filters, (i + 1) * s.filters)
        filters[mine, i * s.learned : (i + 1) * s.learned] = kernel[:, :-1]
        filters[mine, -1] = kernel[:, -1]
        output[mine] = m["output"][: s.filters] / n
        output[n * s.filters :][mine] = m["output"][s.filters :] / n

    constants = {
        "table": np.round(table / scale).astype(np.int8),
        "scale": scale.astype(np.float32),
        "filters": filters,
        "filter_bias": np.concatenate([m["filter_bias"] for m in members]),
        "output": output,
        "bias": np.mean([m["bias"] for m in members], axis=0, dtype=np.float32),
        "axis_1": np.array([1], np.int64),
        "axis_2": np.array([2], np.int64),
        "one": np.array([1], np.float32),
    }
    node = helper.make_node
    nodes = [
        node("Cast", ["attention_mask"], ["mask"], to=TensorProto.FLOAT),
        node("Unsqueeze", ["mask", "axis_2"], ["mask_by_token"]),  # [batch, sequence, 1]
        node("Unsqueeze", ["mask", "axis_1"], ["mask_by_filter"]),  # [batch, 1, sequence]
        node("Gather", ["table", "input_ids"], ["rows"], axis=0),
        node("Cast", ["rows"], ["steps"], to=TensorProto.FLOAT),
        node("Mul", ["steps", "scale"], ["tokens"]),
        node("Mul", ["tokens", "mask_by_token"], ["masked_tokens"]),
        node("Transpose", ["masked_tokens"], ["signal"], perm=[0, 2, 1]),
        node(
            "Conv",
            ["signal", "filters", "filter_bias"],
            ["convolved"],
            kernel_shape=[s.width],
            pads=[(s.width - 1) // 2, s.width // 2],
        ),
        node("Relu", ["convolved"], ["responses"]),
        node("Mul", ["responses", "mask_by_filter"], ["masked_responses"]),
        node("ReduceMax", ["masked_responses"], ["largest"], axes=[2], keepdims=0),
        node("ReduceSum", ["masked_responses", "axis_2"], ["sum"], keepdims=0),
        node("ReduceSum", ["mask", "axis_1"], ["length"], keepdims=1),
        node("Max", ["length", "one"], ["length_or_one"]),
        node("Div", ["sum", "length_or_one"], ["mean"]),
        node("Concat", ["largest", "mean"], ["features"], axis=1),
        node("MatMul", ["features", "output"], ["unbiased"]),
        node("Add", ["unbiased", "bias"], ["logits"]),
    ]
    ids = [
        helper.make_tensor_value_info(name, TensorProto.INT64, ["batch", "sequence"])
        for name in ("input_ids", "attention_mask")
    ]
    logits = helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", 3])
    tensors = [numpy_helper.from_array(value, name) for name, value in constants.items()]
    graph = helper.make_graph(nodes, "sentiment", ids, [logits], tensors)
    model = helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8, producer_name="train.py"
    )
    onnx.checker.check_model(model, full_check=True)
    return model.SerializeToString(deterministic=True)


class Classifier:
    """The finished files. They are run as a user would run them."""

    def __init__(self, tokenizer, model):
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        self.tokenizer = tokenizer
        self.session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])

    def run(self, rows, length=None):
        ids, mask = padded(rows, length or max(map(len, rows)))
        return self.session.run(
            ["logits"], {"input_ids": ids.astype(np.int64), "attention_mask": mask.astype(np.int64)}
        )[0]

    def logits(self, texts):
        rows = [row[:MAX_TOKENS] for row in encode(self.tokenizer, texts)]
        return np.concatenate([self.run(rows[i : i + 64]) for i in range(0, len(rows), 64)])

    def label(self, texts):
        return self.logits(texts).argmax(axis=1)


# ---- Figures and checks ----------------------------------------------------------------------------------------------

# These texts were written for the card before any model was tried, and no choice was made with them.
TICKETS = [
    (NEGATIVE, "I was charged twice and nobody answers."),
    (NEGATIVE, "The app crashes every time I open a report."),
    (NEGATIVE, "Still waiting for a refund after three weeks, this is unacceptable."),
    (NEGATIVE, "Your latest update broke our login page."),
    (NEGATIVE, "I can't get into my account and the reset email never arrives."),
    (NEGATIVE, "This is the worst support I have ever dealt with."),
    (NEGATIVE, "The export is not working again!!!"),
    (NEGATIVE, "We lost two days of data because of this bug."),
    (NEGATIVE, "Very disappointed with the new pricing."),
    (NEGATIVE, "The documentation is confusing and out of date :("),
    (NEUTRAL, "How do I reset my password?"),
    (NEUTRAL, "Please change the billing address on our account."),
    (NEUTRAL, "Which ports does the server use?"),
    (NEUTRAL, "We are on version 2.4 and run it on three machines."),
    (NEUTRAL, "Could you send me the invoice for March?"),
    (NEUTRAL, "I would like to add two more users to the team plan."),
    (NEUTRAL, "Is there a limit on the size of an upload?"),
    (NEUTRAL, "The meeting is on Tuesday at ten."),
    (NEUTRAL, "I attached the log file from this morning."),
    (NEUTRAL, "Does the free plan include the API?"),
    (POSITIVE, "Thanks, the new release fixed everything!"),
    (POSITIVE, "Great support, my problem was solved in five minutes."),
    (POSITIVE, "I love the new dashboard."),
    (POSITIVE, "Setup was easy and it works perfectly."),
    (POSITIVE, "You guys are awesome :)"),
    (POSITIVE, "The search is much faster now, well done."),
    (POSITIVE, "Happy to say the upgrade went without a problem."),
    (POSITIVE, "Not bad at all, we will keep using it."),
    (POSITIVE, "Your team was very helpful and patient with me."),
    (POSITIVE, "Best tool we have bought this year \U0001f600"),
]

GOLDEN = [
    "", " ", "!", "?!?!?!?!", "\u65e5\u672c\u8a9e", "\x00\x07", "I don\u2019t like it", "I don't like it",
    "I like it", "ISN'T IT GREAT?!", "Na\u00efve clich\u00e9s, caf\u00e9s and \u00c5ngstr\u00f6ms",
    "mail bob@example.com or see https://example.com/a?b=c:)", "www.example.com is down :-(",
    "great :) bad :( meh :/ hug <3 :D :P ;)", "\U0001f600 \U0001f44d\U0001f3fd \u2764\ufe0f \U0001f621 \U0001f9ff",
    "soooooo goooood", "1) 12:30, v2.4.1 = $3.50...",
    "C:\\logs and {\"a\":[1]}", "unrefundable pseudocompatibility", "a" * 65, "one\ttwo\r\nthree", "bad " * 255,
]  # fmt: skip


def scores(gold, predicted):
    gold, predicted = np.asarray(gold), np.asarray(predicted)
    f1 = [
        2 * ((gold == c) & (predicted == c)).sum() / max(1, (gold == c).sum() + (predicted == c).sum())
        for c in range(3)
    ]
    return {"accuracy": round(float((gold == predicted).mean()), 4), "macro_f1": round(float(np.mean(f1)), 4)}


def scores_by_source(texts, predicted):
    result = {"all": scores([t.label for t in texts], predicted)}
    for source in SOURCES:
        mine = [i for i, t in enumerate(texts) if t.source == source]
        result[source] = scores([texts[i].label for i in mine], [predicted[i] for i in mine])
    return result


def vader(texts):
    analyzer = SentimentIntensityAnalyzer()
    return np.array([analyzer.polarity_scores(text)["compound"] for text in texts])


def by_thresholds(compound, low, high):
    return np.where(compound <= low, NEGATIVE, np.where(compound >= high, POSITIVE, NEUTRAL))


def tune_thresholds(texts):
    """Returns the thresholds with the best sum of accuracy and macro-F1 on these texts."""
    compound, gold = vader([t.text for t in texts]), [t.label for t in texts]
    grid = [i / 20 for i in range(-18, 19)]
    total = lambda pair: sum(scores(gold, by_thresholds(compound, *pair)).values())
    return max(((low, high) for low in grid for high in grid if low < high), key=total)


def check(classifier, texts):
    """Checks the properties that the server relies on."""
    rows = encode(classifier.tokenizer, texts)
    close = lambda a, b: float(np.abs(a - b).max()) < 1e-6
    for row in rows[:40]:
        alone = classifier.run([row])
        assert alone.shape == (1, 3) and alone.dtype == np.float32 and np.isfinite(alone).all()
        for length in (len(row) + 1, 100, MAX_TOKENS):
            assert close(alone, classifier.run([row], length)), "padding changes the result"
        assert close(alone, classifier.run([row, rows[7], [START], [START] + [START + 20] * 255])[:1]), (
            "neighbours change the result"
        )
    together = classifier.run(rows[:64])
    assert close(together, np.concatenate([classifier.run([row]) for row in rows[:64]])), (
        "a batch differs from its texts"
    )
    for empty in ("", "  \n"):
        assert encode(classifier.tokenizer, [empty]) == [[START]]
        assert classifier.label([empty]) == [NEUTRAL]
    assert np.isfinite(classifier.run([[START]])).all() and np.isfinite(classifier.run([[START] + [50] * 255])).all()


def write_files(tokenizer, members, rating, files):
    (HERE / "model.onnx").write_bytes(build_graph(members, rating))
    tokenizer.save(str(HERE / "tokenizer.json"), pretty=False)
    config = {
        "model_type": "token-filters",
        "architectures": ["TokenFiltersForSequenceClassification"],
        "problem_type": "single_label_classification",
        "id2label": {str(i): name for i, name in enumerate(LABELS)},
        "label2id": {name: i for i, name in enumerate(LABELS)},
        "max_position_embeddings": MAX_TOKENS,
        "pad_token_id": PAD,
        "vocab_size": tokenizer.get_vocab_size(),
    }
    (HERE / "config.json").write_text(json.dumps(config, indent=2) + "\n")
    (HERE / "LICENSE").write_bytes(files["LICENSE.txt"].replace(b"\r\n", b"\n").rstrip() + b"\n")


def read_classifier():
    return Classifier(Tokenizer.from_file(str(HERE / "tokenizer.json")), (HERE / "model.onnx").read_bytes())


def write_golden(classifier):
    lines = []
    for text in [*GOLDEN, *(text for _, text in TICKETS[::5])]:
        ids = encode(classifier.tokenizer, [text])[0]
        assert len(ids) <= MAX_TOKENS
        logits = [float(f"{x:.7g}") for x in classifier.run([ids])[0]]
        lines.append(
            json.dumps({"text": text, "ids": ids, "logits": logits}, ensure_ascii=False, separators=(",", ":")) + "\n"
        )
    (HERE / "golden.jsonl").write_text("".join(lines), encoding="utf-8")


def validate(train, validation, lexicon, files):
    """Prints the figures that the settings were chosen by. It does not use the test split."""
    tokenizer, ratings = build_tokenizer(train, lexicon, files)
    members, rating = train_network(tokenizer, ratings, train)
    classifier = Classifier(tokenizer, build_graph(members, rating))
    print(json.dumps(scores_by_source(validation, classifier.label([t.text for t in validation])), indent=2))


def main():
    files = download()
    texts, lexicon = read_texts(files), read_lexicon(files)
    assign_folds(texts)
    train, validation, test = split(texts)
    if sys.argv[1:] == ["--validate"]:
        return validate(train, validation, lexicon, files)

    known = train + validation
    tokenizer, ratings = build_tokenizer(known, lexicon, files)
    members, rating = train_network(tokenizer, ratings, known)
    write_files(tokenizer, members, rating, files)

    classifier = read_classifier()
    check(classifier, [text for _, text in TICKETS] + [t.text for t in test])
    write_golden(classifier)

    gold = [t.label for t in known]
    majority = int(np.bincount(gold).argmax())
    compound, tuned = vader([t.text for t in test]), tune_thresholds(known)
    ticket_labels, ticket_texts = zip(*TICKETS)
    answers = classifier.label(list(ticket_texts))
    count = lambda texts: {
        source: np.bincount([t.label for t in texts if t.source == source], minlength=3).tolist() for source in SOURCES
    }
    metrics = {
        "texts": {"train": count(train), "validation": count(validation), "test": count(test)},
        "test": {
            "majority": scores_by_source(test, [majority] * len(test)),
            "vader": scores_by_source(test, by_thresholds(compound, -0.05, 0.05)),
            "vader_tuned": {"thresholds": tuned, **scores_by_source(test, by_thresholds(compound, *tuned))},
            "this_model": scores_by_source(test, classifier.label([t.text for t in test])),
        },
        "tickets": {
            "texts": len(TICKETS),
            "this_model_right": int((answers == ticket_labels).sum()),
            "vader_right": int((by_thresholds(vader(ticket_texts), -0.05, 0.05) == ticket_labels).sum()),
            "wrong": {text: LABELS[a] for (label, text), a in zip(TICKETS, answers) if a != label},
        },
    }
    report = re.sub(r"\s+(?=[^\[]*\])", " ", json.dumps(metrics, indent=1)) + "\n"  # a list on one line
    (HERE / "metrics.json").write_text(report)
    print(report)
    for path in sorted(HERE.iterdir()):
        if path.is_file():
            print(f"{hashlib.sha256(path.read_bytes()).hexdigest()[:16]} {path.stat().st_size:>7} {path.name}")


if __name__ == "__main__":
    main()
