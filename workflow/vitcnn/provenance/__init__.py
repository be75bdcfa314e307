"""The record of what went into each output, and whether the same would go into it today.

`code` digests the code behind an output, `environment` names its packages' versions, `record` writes both
beside the output with its settings and inputs, and `freshness` compares that record with now.
"""
