import os
import time


def handler(event, context):
    do = event["do"]
    if do == "raise":
        raise ValueError("as asked")
    if do == "exit":
        os._exit(3)
    if do == "eat":
        bytearray(1 << 30)
    if do == "sleep":
        time.sleep(60)
    return do
