"""Measures how well a server finds: judged queries by vectors, by words and by both, with and without passages.

    apt-get install wordnet-base
    python3 -m venv target/relevance
    target/relevance/bin/pip install -r tests/clients/requirements.txt numpy scipy regex bm25s qdrant-edge-py \\
        gensim scikit-learn simple-icd-10-cm
    target/relevance/bin/python benches/relevance.py target/release/cognate [--only SET] [--peer] [-- FLAGS]

The texts and the judgements come from packages: ICD-10-CM by simple-icd-10-cm, definitions and example sentences by
WordNet, docstrings by numpy, scipy and scikit-learn, the Lee corpus by gensim. Each query has the documents that are
right for it. The constants of the default fusion were chosen with the queries of which the SHA-1 is even. This script
reports the others, unless `--half even` is given.

The columns are nDCG@10, MRR@10 and recall@10. `--peer` adds Qdrant Edge with the same vectors and texts, in this
process. The scores of our BM25 are compared with those of bm25s, and `Similarity` with the judgements of people.
"""

import argparse
import datetime
import hashlib
import importlib
import importlib.util
import inspect
import json
import pathlib
import pkgutil
import re
import sys
import tempfile
import time
import unicodedata
import warnings

import numpy as np

import serving
from stubs import ROOT, pb

K, BATCH = 10, 64
GAINS = 1 / np.log2(np.arange(2, K + 2))
# Characters between the words of a code.
JOINERS = "-._/\\:+@"


MODES = {"vector": pb.SEARCH_MODE_VECTOR, "words": pb.SEARCH_MODE_LEXICAL, "both": pb.SEARCH_MODE_HYBRID}


def number(text):
    return int(hashlib.sha1(text.encode()).hexdigest(), 16)


class Judged:
    """Distinct texts, and for each query the positions of the texts that are right."""

    def __init__(self):
        self.texts, self.queries = {}, {}

    def text(self, text):
        return self.texts.setdefault(text, len(self.texts))

    def judge(self, queries, query, right):
        self.queries.setdefault(queries, {}).setdefault(query, set()).add(right)


def icd():
    """Codes of ICD-10-CM without those of seven characters that only extend another."""
    import simple_icd_10_cm as cm

    codes = (c for c in cm.get_all_codes(True) if cm.is_category_or_subcategory(c))
    return [(c, cm.get_description(c), cm.get_inclusion_term(c)) for c in codes if not cm.is_extended_subcategory(c)]


def icd_descriptions():
    """Descriptions; a query is another name of the same disease."""
    made = Judged()
    for _, description, terms in icd():
        right = made.text(description)
        for term in terms:
            made.judge("other names", term, right)
    return made


def icd_codes():
    """Codes with descriptions; a query is another name after the code of the category, or a code in a phrase."""
    made = Judged()
    for code, description, terms in icd():
        right = made.text(f"{code[:3]} {code} {description}")
        for term in terms:
            made.judge("category and other name", f"{code[:3]} {term}", right)
        if number("lookup" + code) % 12 == 0 and len(code) > 3:
            phrases = (code, f"what does {code} mean?", f"patient with {code}, please check")
            made.judge("a code", phrases[number(code) % 3], right)
    return made


def icd_categories():
    """All descriptions of a category in one long document; a query is another name of one of them."""
    made, joined, names = Judged(), {}, []
    for code, description, terms in icd():
        joined.setdefault(code[:3], {})[description] = None
        names += [(term, code[:3]) for term in terms]
    places = {category: made.text("\n".join(lines)) for category, lines in joined.items()}
    for term, category in names:
        made.judge("other names", term, places[category])
    return made


def words():
    """The dictionary of the demo, with the example sentences that WordNet has for each word and the demo has not."""
    sys.path.insert(0, str(ROOT / "examples" / "reverse-dictionary"))
    import make

    wordnet, sentences = pathlib.Path("/usr/share/wordnet"), {}
    for part in make.PARTS:
        numbers = make.sense_numbers(wordnet, part)
        for offset, _, lemmas, gloss in make.synsets(wordnet, part):
            sense = f"{lemmas[0]}.{make.PARTS[part]}.{numbers.get((lemmas[0].lower(), offset), 0):02}"
            sentences[sense] = re.findall(r'"([^"]+)"', gloss)
    lines = (ROOT / "examples" / "reverse-dictionary" / "words.jsonl").read_text().splitlines()
    entries = [json.loads(line) for line in lines]
    return [(one["id"], one["text"], one["metadata"]["word"], sentences.get(one["id"], [])) for one in entries]


def definitions():
    """Definitions; a query is an example sentence of the word."""
    made = Judged()
    for _, definition, _, sentences in words():
        right = made.text(definition)
        for sentence in sentences:
            made.judge("example sentences", sentence, right)
    return made


def catalogue():
    """Definitions, each with one of 150 article numbers and one of 150 made-up names."""
    made, syllables = Judged(), "ba de ki lo mu ra se ti no va gre stal kor wen hof bru lin".split()
    for sense, definition, word, sentences in words():
        x, y = number(f"article{number('a' + sense) % 150}"), number(f"n{number(sense) % 150}")
        article = f"{('KX', 'KY', 'TR')[x % 3]}-{4000 + x // 3 % 900}"
        end = ("ner", "mann", "berg", "ton", "ski")[y % 5]
        name = (syllables[y % 17] + syllables[y // 17 % 17] + end).capitalize()
        right = made.text(f"{definition}, no. {article} ({name})")
        made.judge("word and number", f"{word} {article}", right)
        for sentence in sentences:
            first = number(sentence) % 2
            made.judge("sentence and number", f"{article}: {sentence}" if first else f"{sentence} {article}", right)
            made.judge("sentence and name", f"{name}: {sentence}" if first else f"{sentence} {name}", right)
    return made


def joined_definitions():
    """Forty definitions that have nothing in common in each document; a query is an example sentence."""
    made, entries = Judged(), sorted(words(), key=lambda entry: number("long" + entry[0]))
    for first in range(0, len(entries), 40):
        part = entries[first : first + 40]
        right = made.text("\n".join(definition.capitalize() + "." for _, definition, _, _ in part))
        for sentence in (sentence for *_, sentences in part for sentence in sentences):
            made.judge("example sentences", sentence, right)
    return made


def docstrings():
    """Docstrings of numpy, scipy and scikit-learn after their names, without the first sentence, which is the query."""
    warnings.simplefilter("ignore")
    found, made = {}, Judged()
    hidden = {"tests", "conftest", "f2py", "distutils", "setup", "testing"}
    for package in ("numpy", "scipy", "sklearn"):
        modules = [importlib.import_module(package)]
        for _, name, _ in pkgutil.walk_packages(modules[0].__path__, package + ".", onerror=lambda _: None):
            if not any(part.startswith("_") or part in hidden for part in name.split(".")[1:]):
                try:
                    modules.append(importlib.import_module(name))
                except BaseException:  # Some modules end the process, or miss a library.
                    pass
        for module in modules:
            for name, value in vars(module).items():
                is_own = str(getattr(value, "__module__", "")).split(".")[0] == package
                if callable(value) and is_own and not name.startswith("_") and len(inspect.getdoc(value) or "") > 200:
                    found.setdefault(inspect.getdoc(value), f"{package}.{name}")
    for text, name in sorted(found.items(), key=lambda pair: pair[1]):
        paragraphs = re.split(r"\n\s*\n", text)
        if re.match(r"^[\w.]+\(.*\)", paragraphs[0], re.S):
            paragraphs = paragraphs[1:]
        if len(paragraphs) > 2 and 20 < len(summary := " ".join(paragraphs[0].split())) < 300:
            right = made.text(name + "\n" + "\n\n".join(paragraphs[1:]))
            made.judge("first sentences", summary, right)
            made.judge("name and six words", f"{name.split('.')[-1]} {' '.join(summary.split()[:6])}", right)
    return made


# The name of a set, the function that makes it, and whether its texts are long enough for passages.
SETS = {
    "ICD-10-CM": (icd_descriptions, False),
    "ICD-10-CM with codes": (icd_codes, False),
    "dictionary": (definitions, False),
    "catalogue": (catalogue, False),
    "ICD-10-CM categories": (icd_categories, True),
    "docstrings": (docstrings, True),
    "40 definitions": (joined_definitions, True),
}


class Server(serving.Server):
    """A server with its collections in memory."""

    def __init__(self, binary, flags):
        super().__init__(binary, ["--in-memory", *flags])
        self.model = self.stub.Info(pb.InfoRequest()).model

    def load(self, name, texts, passages):
        wanted = pb.Passages(enabled=passages)
        self.stub.CreateCollection(pb.CreateCollectionRequest(name=name, passages=wanted))

        def messages():
            for first in range(0, len(texts), 500):
                part = enumerate(texts[first : first + 500], first)
                documents = [pb.Document(id=str(n), text=text) for n, text in part]
                yield pb.UploadRequest(collection=name, documents=documents)

        for answer in self.stub.Upload(messages()):
            assert not answer.errors, answer.errors[0]
            committed = answer.committed
        assert committed == len(texts), f"{committed} of {len(texts)} documents were committed"
        self.wait_for_graphs()

    def search(self, name, queries, mode):
        """Returns for each query the positions of its hits and the hits."""
        found = []
        for first in range(0, len(queries), BATCH):
            part = [pb.Query(text=text) for text in queries[first : first + BATCH]]
            answer = self.stub.TopK(pb.TopKRequest(collection=name, queries=part, k=K, mode=MODES[mode]))
            for result in answer.results:
                assert not result.HasField("error"), result.error
                found.append([(int(hit.id), hit) for hit in result.hits])
        return found

    def embed(self, texts):
        rows = []
        for first in range(0, len(texts), BATCH):
            answer = self.stub.Embed(
                pb.EmbedRequest(texts=texts[first : first + BATCH], format=pb.VECTOR_FORMAT_F32_BYTES)
            )
            rows += [np.frombuffer(result.vector.data, np.float32) for result in answer.results]
        return np.array(rows)


def measures(found, right):
    """Mean nDCG@10, MRR@10 and recall@10. `found` has the positions of the hits of each query, best first."""
    values = []
    for hits, wanted in zip(found, right):
        is_right = np.array([hit in wanted for hit in hits[:K]] + [False] * (K - len(hits)))
        best = min(len(wanted), K)
        first = 1 / (1 + is_right.argmax()) if is_right.any() else 0
        values.append(((is_right * GAINS).sum() / GAINS[:best].sum(), first, is_right.sum() / best))
    return np.mean(values, axis=0)


def cells(found, right):
    return " / ".join(f"{value:.3f}" for value in measures(found, right))


class Qdrant:
    """Qdrant Edge: vectors, its own BM25 as sparse vectors without stemming, and both by its two fusions."""

    def __init__(self, texts, vectors):
        import qdrant_edge as edge

        self.edge, self.folder = edge, tempfile.TemporaryDirectory()
        length = float(np.mean([len(terms(text)) for text in texts]))
        plain = {"avg_len": length, "stemmer": edge.DisabledStemmer(), "stopwords": edge.StopwordsSet()}
        self.words = edge.Bm25(edge.Bm25Config(**plain))
        dense = edge.EdgeVectorParams(size=vectors.shape[1], distance=edge.Distance.Cosine)
        sparse = edge.EdgeSparseVectorParams(modifier=edge.Modifier.Idf)
        config = edge.EdgeConfig(vectors={"vector": dense}, sparse_vectors={"words": sparse})
        self.shard = edge.EdgeShard.create(self.folder.name, config)
        for first in range(0, len(texts), 500):
            points = []
            for n in range(first, min(first + 500, len(texts))):
                both = {"vector": vectors[n].tolist(), "words": self.words.embed_document(texts[n])}
                points.append(edge.Point(n, both))
            self.shard.update(edge.UpdateOperation.upsert_points(points))
        self.shard.optimize()

    def search(self, query, vector):
        """Returns the hits of each way of searching."""
        edge = self.edge
        near = edge.Query.Nearest(vector.tolist(), using="vector")
        alike = edge.Query.Nearest(self.words.embed_query(query), using="words")
        lists = [edge.Prefetch(limit=100, query=near), edge.Prefetch(limit=100, query=alike)]
        requests = {
            "Qdrant, vectors": edge.QueryRequest(limit=K, query=near),
            "Qdrant, words": edge.QueryRequest(limit=K, query=alike),
            "Qdrant, RRF k = 2": edge.QueryRequest(limit=K, query=edge.Fusion.Rrf(k=2), prefetches=lists),
            "Qdrant, RRF k = 60": edge.QueryRequest(limit=K, query=edge.Fusion.Rrf(k=60), prefetches=lists),
            "Qdrant, DBSF": edge.QueryRequest(limit=K, query=edge.Fusion.Dbsf(), prefetches=lists),
        }
        return {name: [hit.id for hit in self.shard.query(request)] for name, request in requests.items()}


def terms(text):
    """The terms of `src/lexical/analyzer.rs`: words by UAX 29 in lower case, their parts, codes of several words."""
    import regex

    found, start, run_end = [], 0, 0
    runs = regex.compile(r"[\p{N}\p{Lowercase}\p{Uppercase}._/\\:+@-]*")
    for word in regex.split(r"(?wV1)\b", text):
        if any(unicodedata.category(c)[0] in "LN" for c in word):
            if start >= run_end:
                run = runs.match(text, start)[0].rstrip(JOINERS)
                run_end = start + max(len(run), len(word))
                if len(run) > len(word) and regex.search(r"\p{N}", run):
                    found.append(run.strip(JOINERS).lower())
            parts = [part for part in regex.split(r"[^\p{Alphabetic}\p{N}'’]+", word) if part]
            found += [word.lower(), *(part.lower() for part in parts if parts != [word])]
        start += len(word)
    return found


def compare_bm25(texts, queries, found):
    """Returns the greatest difference from the scores of bm25s, which leaves out the factor k1 + 1, as a share."""
    import bm25s

    index = bm25s.BM25(method="lucene", k1=1.2, b=0.75)
    index.index([terms(text) for text in texts], show_progress=False)
    worst = 0.0
    for query, hits in zip(queries, found):
        scores = index.get_scores(terms(query)) * 2.2
        worst = max([worst, *(abs(hit.score - scores[n]) / max(scores[n], 1e-9) for n, hit in hits)])
    return worst


def lee(server):
    """Correlation of `Similarity` with the judgements of people, for each two of 50 news texts."""
    from scipy import stats

    folder = pathlib.Path(importlib.util.find_spec("gensim").submodule_search_locations[0]) / "test" / "test_data"
    texts = (folder / "lee.cor").read_text("latin1").splitlines()
    people = np.loadtxt(folder / "similarities0-1.txt")
    answer = server.stub.Similarity(pb.SimilarityRequest(a=texts))
    ours = np.array([row.scores for row in answer.rows])
    pairs = np.triu_indices(len(texts), 1)
    return stats.pearsonr(ours[pairs], people[pairs])[0], stats.spearmanr(ours[pairs], people[pairs])[0]


def run(server, name, args):
    made, is_long = SETS[name][0](), SETS[name][1]
    texts = list(made.texts)
    for passages in (True, False) if is_long else (False,):
        collection = f"{list(SETS).index(name)}-{passages}"
        begun = time.time()
        server.load(collection, texts, passages)
        stored = next(one for one in server.collections() if one.name == collection)
        seconds = time.time() - begun
        print(f"{name}: {len(texts)} documents, {stored.passage_count} passages in {seconds:.0f} s", file=sys.stderr)
        peer = None
        if args.peer and not is_long:
            peer = Qdrant(texts, server.embed(texts))
        for kind, judged in made.queries.items():
            queries = [query for query in judged if number(query) % 2 == (args.half == "odd")][: args.queries]
            right = [judged[query] for query in queries]
            found = {mode: server.search(collection, queries, mode) for mode in MODES}
            row = [cells([[n for n, _ in hits] for hits in found[mode]], right) for mode in MODES]
            label = f"{name}{', passages' if passages else ', cut' if is_long else ''}: {kind}"
            print(f"| {label} | {len(queries)} | " + " | ".join(row) + " |", flush=True)
            if not is_long:
                worst = compare_bm25(texts, queries[:500], found["words"])
                print(f"{label}: BM25 differs from bm25s by {worst:.1e} at most", file=sys.stderr)
            if peer:
                theirs = {}
                for query, vector in zip(queries, server.embed(queries)):
                    for way, hits in peer.search(query, vector).items():
                        theirs.setdefault(way, []).append(hits)
                for way, hits in theirs.items():
                    print(f"{label}: {way}: {cells(hits, right)}", flush=True)
        server.stub.DeleteCollection(pb.DeleteCollectionRequest(name=collection))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("binary")
    parser.add_argument("--only", action="append", choices=[*SETS, "Lee"])
    parser.add_argument("--peer", action="store_true", help="Qdrant Edge too")
    parser.add_argument("--queries", type=int, help="queries of each kind at most")
    parser.add_argument("--half", choices=["odd", "even"], default="odd")
    given, flags = sys.argv[1:], []
    if "--" in given:
        given, flags = given[: given.index("--")], given[given.index("--") + 1 :]
    args = parser.parse_args(given)
    server = Server(args.binary, flags)
    try:
        model = server.model
        print(f"{model.id}, {model.precision}, {datetime.date.today()}; nDCG@10 / MRR@10 / recall@10")
        print("| documents and queries | queries | vectors | words | both |")
        print("| --- | ---: | --- | --- | --- |", flush=True)
        for name in args.only or [*SETS, "Lee"]:
            if name == "Lee":
                pearson, spearman = lee(server)
                print(f"Lee corpus: Pearson {pearson:.3f}, Spearman {spearman:.3f}")
            else:
                run(server, name, args)
    finally:
        server.stop()


if __name__ == "__main__":
    main()
