"""Bad and odd inputs, as tables; `test_bad_inputs.py` puts each to the real command line."""
