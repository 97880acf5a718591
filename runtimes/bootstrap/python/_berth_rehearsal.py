"""What a waiting process runs in place of a function (bootstrap.py)."""


def handler(event, context):
    return event
