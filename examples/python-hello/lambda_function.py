"""The smallest useful function: it greets, and shows the context that every call gets."""

import os
import platform

GREETING = os.environ.get("GREETING", "Hello")


def lambda_handler(event, context):
    if event.get("fail"):
        raise ValueError("asked to fail")
    name = event.get("name", "world")
    print(f"greeting {name}, {context.get_remaining_time_in_millis()} ms left")
    return {
        "message": f"{GREETING}, {name}!",
        "from": f"Python {platform.python_version()}",
        "version": context.function_version,
    }
