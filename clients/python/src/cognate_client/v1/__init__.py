"""The messages and stubs of the contract, made by `tools/generate.py` from `proto/`."""
