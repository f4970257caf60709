"""Outputs of the published implementations on weights and inputs made by a rule, and that rule (vectors.py).

`NAME.json` says what was run, on what, and within which tolerance to agree; `NAME.npz` holds the outputs as
`case/output`.
Nothing here is trained and nothing has to be downloaded.
"""
