"""Follows a log group as `aws logs tail GROUP --follow` of the AWS CLI 2 does, and calls the function meanwhile.

Usage: tail.py LOGS-ENDPOINT FUNCTION CALLS. It prints one line of JSON: the messages in the order in which they came.
The loop is the CLI's (awscli/customizations/logs/tail.py): FilterLogEvents with interleaved, what came is remembered by event
id and timestamp, the next start is the newest timestamp, and a token is followed while there is one.
"""
import collections
import json
import sys
import time

import botocore.session

endpoint, function, calls = sys.argv[1], sys.argv[2], int(sys.argv[3])
session = botocore.session.get_session()
logs = session.create_client("logs", endpoint_url=endpoint)
functions = session.create_client("lambda", endpoint_url=endpoint)
seen = collections.defaultdict(set)
arguments = {"logGroupName": "/aws/lambda/" + function, "interleaved": True, "startTime": int(time.time() * 1000) - 600_000}
messages, made, deadline = [], 0, time.time() + 60
while time.time() < deadline and sum("END RequestId" in m for m in messages) < calls:
    if made < calls:
        functions.invoke(FunctionName=function, Payload=json.dumps({"call": made}))
        made += 1
    page = logs.filter_log_events(**arguments)
    newest = max(seen, default=0)
    for event in page["events"]:
        if event["eventId"] not in seen[event["timestamp"]]:
            seen[event["timestamp"]].add(event["eventId"])
            messages.append(event["message"])
            newest = max(newest, event["timestamp"])
    for old in [t for t in seen if t != newest]:
        del seen[old]
    if "nextToken" in page:
        arguments["nextToken"] = page["nextToken"]
    else:
        arguments.pop("nextToken", None)
        if newest:
            arguments["startTime"] = newest
        time.sleep(0.05)
print(json.dumps(messages))
