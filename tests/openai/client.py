"""OpenAI's own client against this server: `python client.py HOST:PORT`. Exits with 1 at the first fault."""

import math
import sys
from array import array

import openai

client = openai.OpenAI(base_url=f"http://{sys.argv[1]}/v1", api_key="none")
(model,) = client.models.list().data
assert client.models.retrieve(model.id) == model

texts = ["a small boat", "a ship", "a tax return"]
answer = client.embeddings.create(model=model.id, input=texts)  # in base64, as the client asks by itself
boat, ship, tax = (item.embedding for item in answer.data)
assert answer.model == model.id and answer.usage.prompt_tokens == answer.usage.total_tokens > len(texts)
assert len(boat) == 384 and math.isclose(sum(x * x for x in boat), 1, rel_tol=1e-5)
assert sum(x * y for x, y in zip(boat, ship)) > sum(x * y for x, y in zip(boat, tax))

floats = client.embeddings.create(model=model.id, input="a small boat", encoding_format="float")
# Decimal digits are read as doubles; they are the shortest ones that give the same 32 bits.
assert array("f", floats.data[0].embedding) == array("f", boat), "the same numbers in both formats"
short = client.embeddings.create(model=model.id, input="a small boat", dimensions=64)
assert len(short.data[0].embedding) == 64

for wrong, error, name in [
    ({"model": "text-embedding-3-small", "input": "a"}, openai.NotFoundError, "text-embedding-3-small"),
    ({"model": model.id, "input": [[1, 2, 3]]}, openai.BadRequestError, "token ids"),
    ({"model": model.id, "input": "a", "dimensions": 385}, openai.BadRequestError, "dimensions"),
]:
    try:
        client.embeddings.create(**wrong)
    except error as refused:
        assert name in str(refused), refused
    else:
        raise AssertionError(f"{wrong} was answered")
print("ok")
