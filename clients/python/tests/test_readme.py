"""The examples of the README, one after the other, as a reader would run them."""

import re
from pathlib import Path

import pytest

from cognate_client import Client, errors

README = Path(__file__).parent.parent / "README.md"


def test_the_examples_of_the_readme_run(address: str, client: Client, capsys: pytest.CaptureFixture[str]) -> None:
    examples = re.findall(r"```python\n(.*?)```", README.read_text(), re.DOTALL)
    assert len(examples) == 7
    names: dict[str, object] = {}
    try:
        for example in examples:
            exec(example.replace("127.0.0.1:50051", address), names)
    finally:
        for collection in ("words", "notes"):
            try:
                client.delete_collection(collection)
            except errors.NotFound:
                continue
    said = capsys.readouterr().out
    for line in ("train: public transport on rails {'wheels': True, 'year': 1804}", "Refunds", "collection word"):
        assert line in said, said
    connected = names["client"]
    assert isinstance(connected, Client)
    connected.close()
