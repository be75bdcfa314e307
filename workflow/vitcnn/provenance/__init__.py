"""What each output was made of, and whether it would be made of the same today.

`code` digests the program that makes an output, `environment` the packages it runs on, `record` writes
both beside the output together with its settings and inputs, and `freshness` compares such a record
with the study as it is now.
"""
