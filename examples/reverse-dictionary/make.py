#!/usr/bin/env python3
"""Makes words.jsonl, the corpus of the demo: what common English words mean, from WordNet 3.0.

usage: make.py [WORDNET_DIR]      (default /usr/share/wordnet, as Debian's package wordnet-base installs it)

Needs nothing but Python. The same dictionary files give the same bytes.

A search for meaning is convincing when everybody knows the words it finds, so the script looks for
senses that are familiar and well defined:
  * one word of lower-case letters, not a name, and the first word of its synset;
  * a definition (the gloss without its example sentences) of 15 to 160 characters that does not use the word;
  * ranked by how familiar the sense is: how often WordNet's own definitions and examples use the word,
    shared out among its senses as the tagged texts use them (cntlist.rev, plus one for each sense);
  * one sense for each word, its most familiar;
  * for nouns things, people, animals, food, places and feelings come first, abstractions later.
"""
import json, math, re, sys
from collections import Counter
from pathlib import Path

# How many senses of each part of speech are kept.
KEEP = {"noun": 3800, "verb": 1000, "adjective": 600}

# Lexicographer files by number, from the manual page lexnames(5WN): where a sense was filed by its authors.
FIELDS = """adj.all adj.pert adv.all noun.Tops noun.act noun.animal noun.artifact noun.attribute noun.body
noun.cognition noun.communication noun.event noun.feeling noun.food noun.group noun.location noun.motive
noun.object noun.person noun.phenomenon noun.plant noun.possession noun.process noun.quantity noun.relation
noun.shape noun.state noun.substance noun.time verb.body verb.change verb.cognition verb.communication
verb.competition verb.consumption verb.contact verb.creation verb.emotion verb.motion verb.perception
verb.possession verb.social verb.stative verb.weather adj.ppl""".split()

# What can be pictured makes the better riddle; multiplies the rank of a sense.
CONCRETE = {
    "noun.animal": 2.0, "noun.artifact": 1.6, "noun.body": 1.6, "noun.food": 2.0, "noun.object": 1.6,
    "noun.person": 1.6, "noun.plant": 1.6, "noun.phenomenon": 1.4, "noun.feeling": 1.4, "noun.substance": 1.4,
    "noun.shape": 1.2, "noun.time": 1.2, "noun.location": 1.0, "noun.event": 1.0, "noun.act": 0.8,
    "noun.possession": 0.8, "noun.group": 0.8, "noun.state": 0.7, "noun.communication": 0.6,
    "noun.attribute": 0.5, "noun.cognition": 0.5, "verb.stative": 0.5, "verb.social": 0.7,
    "adj.pert": 0.5, "adj.ppl": 0.5,
}

# WordNet records how people speak; a demo need not repeat all of it.
UNWANTED = re.compile(
    r"offensive|disparag|derogat|obscene|vulgar|slang|slur|racis|pejorative|contemptu|sexual|genital|coitus|copulat|"
    r"prostitut|excrement|feces|urinat|\bsex\b|\bpenis|vagina|\brape|suicide|narcotic|execution|\bNazi|\bJew|negro|"
    r"\bPacific island|retarded|subnormal|abortion|abnormally short|archaic|obsolete|Roman numeral"
)

PARTS = {"noun": "n", "verb": "v", "adjective": "a"}
FILES = {"noun": "noun", "verb": "verb", "adjective": "adj"}


def lines(path):
    """The records of a dictionary file; the licence at its top is indented."""
    with open(path, encoding="ascii") as file:
        return [line.rstrip("\n") for line in file if not line.startswith("  ")]


def synsets(wordnet, part):
    """(offset, lexicographer file, words, gloss) of each synset; the layout is wndb(5WN)'s."""
    for line in lines(wordnet / f"data.{FILES[part]}"):
        data, gloss = line.split(" | ", 1)
        field = data.split(" ")
        words = [re.sub(r"\((a|p|ip)\)$", "", word) for word in field[4 : 4 + 2 * int(field[3], 16) : 2]]
        yield field[0], FIELDS[int(field[1])], words, gloss.strip()


def sense_numbers(wordnet, part):
    """(lemma, synset offset) → sense number: the order of the offsets in the index."""
    numbers = {}
    for line in lines(wordnet / f"index.{FILES[part]}"):
        field = line.split()
        for number, offset in enumerate(field[6 + int(field[3]) :], 1):
            numbers[field[0], offset] = number
    return numbers


def tagged(wordnet):
    """(lemma, part of speech, sense number) → uses in the tagged texts; the fifth part, `s`, is an adjective too."""
    part_of = {"1": "noun", "2": "verb", "3": "adjective", "5": "adjective"}
    counts = Counter()
    for line in lines(wordnet / "cntlist.rev"):
        key, number, count = line.split()
        lemma, kind = key.split("%")
        if kind[0] in part_of:
            counts[lemma, part_of[kind[0]], int(number)] += int(count)
    return counts


def main():
    wordnet = Path(sys.argv[1] if len(sys.argv) > 1 else "/usr/share/wordnet")
    tags = tagged(wordnet)
    everything = {part: list(synsets(wordnet, part)) for part in PARTS}
    mentions = Counter(w for part in PARTS for s in everything[part] for w in re.findall(r"[a-z]+", s[3].lower()))

    numbers = {part: sense_numbers(wordnet, part) for part in PARTS}
    uses = Counter()
    for part in PARTS:
        for (word, _), number in numbers[part].items():
            uses[word] += tags[word, part, number] + 1

    familiar = {}  # word → its most familiar sense: (score, document)
    for part in PARTS:
        for offset, field, words, gloss in everything[part]:
            word, definition = words[0], gloss.split('"')[0].strip(" ;:,")
            if not re.fullmatch(r"[a-z]{3,14}", word) or not 15 <= len(definition) <= 160:
                continue
            if definition.startswith("(") or definition.count("(") != definition.count(")"):
                continue
            if re.search(rf"\b{word}(s|es|d|ed|ing)?\b", definition) or UNWANTED.search(gloss) or UNWANTED.search(word):
                continue
            number = numbers[part][word, offset]
            share = (tags[word, part, number] + 1) / uses[word]
            score = math.log1p(mentions[word] * share) * CONCRETE.get(field, 0.4 if part == "noun" else 1.0)
            others = [other.replace("_", " ") for other in words[1:]]
            metadata = {"word": word, "part_of_speech": part, "synonyms": others, "field": field}
            document = {"id": f"{word}.{PARTS[part]}.{number:02}", "text": definition, "metadata": metadata}
            if word not in familiar or score > familiar[word][0]:
                familiar[word] = score, document

    best_first = [document for _, document in sorted(familiar.values(), key=lambda pair: (-pair[0], pair[1]["id"]))]
    documents = []
    for part, keep in KEEP.items():
        documents += [d for d in best_first if d["metadata"]["part_of_speech"] == part][:keep]
    documents.sort(key=lambda document: document["id"])
    assert len({document["id"] for document in documents}) == len(documents), "ids are unique"
    out = Path(__file__).with_name("words.jsonl")
    with open(out, "w", encoding="ascii", newline="\n") as file:
        file.writelines(json.dumps(document, separators=(",", ":")) + "\n" for document in documents)
    print(f"{out}: {len(documents)} documents, {out.stat().st_size} bytes")


if __name__ == "__main__":
    main()
