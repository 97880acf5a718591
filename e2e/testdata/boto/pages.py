"""Tries every paginator and every waiter that botocore knows of Lambda, against the server of the environment.

Usage: pages.py ENDPOINT RUNTIME. It prints one line of JSON: what was tried. Any error ends it with a traceback.
"""
import io
import json
import sys
import zipfile

import botocore.exceptions
import botocore.session

endpoint, runtime = sys.argv[1:]
session = botocore.session.get_session()
client = session.create_client("lambda", endpoint_url=endpoint)
MANY = 5
FN = "boto"
RESULT = {  # paginator: its arguments, and how to name an item; an empty list where the server has none of these
    "list_functions": ({}, "FunctionName"),
    "list_versions_by_function": ({"FunctionName": FN}, "Version"),
    "list_aliases": ({"FunctionName": FN}, "Name"),
    "list_event_source_mappings": ({"FunctionName": FN}, "UUID"),
    "list_layers": ({}, "LayerName"),
    "list_layer_versions": ({"LayerName": "boto"}, "Version"),
    "list_function_event_invoke_configs": ({"FunctionName": FN}, "FunctionArn"),
    "list_function_url_configs": ({"FunctionName": FN}, "FunctionUrl"),
    "list_provisioned_concurrency_configs": ({"FunctionName": FN}, "FunctionArn"),
    "list_code_signing_configs": ({}, "CodeSigningConfigArn"),
    "list_functions_by_code_signing_config": ({}, None),
    "list_capacity_providers": ({}, None),
}
REFUSED = {  # operations without anything behind them: the error that they must give
    "list_function_versions_by_capacity_provider": ({"CapacityProviderName": "none"}, "ResourceNotFoundException"),
    "list_durable_executions_by_function": ({"FunctionName": FN}, "NotImplementedException"),
    "get_durable_execution_history": ({"DurableExecutionArn": "arn:aws:lambda:us-east-1:000000000001:function:boto:$LATEST/durable-execution/a/b"}, "NotImplementedException"),
    "get_durable_execution_state": ({"DurableExecutionArn": "arn:aws:lambda:us-east-1:000000000001:function:boto:$LATEST/durable-execution/a/b", "CheckpointToken": "YQ=="}, "NotImplementedException"),
}


def code(text):
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as z:
        z.writestr("app.py", "def handler(event, context):\n    return %r\n" % text)
    return packed.getvalue()


def wait(name, **arguments):
    waiter = client.get_waiter(name)
    waiter.wait(WaiterConfig={"Delay": 0.05, "MaxAttempts": 400}, **arguments)


def prepare():
    signing = client.create_code_signing_config(AllowedPublishers={"SigningProfileVersionArns": [
        "arn:aws:signer:us-east-1:000000000001:/signing-profiles/p/1"]})["CodeSigningConfig"]["CodeSigningConfigArn"]
    RESULT["list_functions_by_code_signing_config"][0]["CodeSigningConfigArn"] = signing
    for i in range(MANY):
        client.create_function(FunctionName=FN + (str(i) if i else ""), Runtime=runtime, Handler="app.handler", Role="arn:aws:iam::000000000001:role/boto",
                               Code={"ZipFile": code("0")}, CodeSigningConfigArn=signing)
        client.publish_layer_version(LayerName="boto", Content={"ZipFile": code(str(i))})
        client.publish_layer_version(LayerName="boto%d" % i, Content={"ZipFile": code(str(i))})
        client.create_code_signing_config(AllowedPublishers={"SigningProfileVersionArns": ["arn:aws:signer:us-east-1:000000000001:/signing-profiles/p/1"]})
    for name in client.waiter_names:  # of a new function
        if name != "function_updated" and name != "function_updated_v2":
            wait(name, FunctionName=FN)
    for i in range(MANY):
        client.update_function_code(FunctionName=FN, ZipFile=code("v%d" % i))
        wait("function_updated_v2" if i % 2 else "function_updated", FunctionName=FN)
        version = client.publish_version(FunctionName=FN)["Version"]
        wait("published_version_active", FunctionName=FN, Qualifier=version)
        alias = "a%d" % i
        client.create_alias(FunctionName=FN, Name=alias, FunctionVersion=version)
        client.create_function_url_config(FunctionName=FN, Qualifier=alias, AuthType="NONE")
        client.put_function_event_invoke_config(FunctionName=FN, Qualifier=alias, MaximumRetryAttempts=1)
        client.put_provisioned_concurrency_config(FunctionName=FN, Qualifier=version, ProvisionedConcurrentExecutions=1)
        client.create_event_source_mapping(FunctionName=FN, EventSourceArn="arn:aws:sqs:us-east-1:000000000001:boto%d" % i, Enabled=False)


def remove():
    for arguments in client.get_paginator("list_event_source_mappings").paginate(FunctionName=FN):
        for mapping in arguments["EventSourceMappings"]:
            client.delete_event_source_mapping(UUID=mapping["UUID"])
    for i in range(MANY):
        client.delete_function(FunctionName=FN + (str(i) if i else ""))


def items(operation, **config):
    arguments, key = RESULT[operation]
    paginator = client.get_paginator(operation)
    pages = list(paginator.paginate(PaginationConfig=config, **arguments))
    found = [item for page in pages for item in page.get(paginator.result_keys[0].expression, [])]
    return [item[key] if key else item for item in found], len(pages)


def page(operation):
    every, _ = items(operation)
    few, pages = items(operation, PageSize=2)
    assert few == every and len(set(map(str, every))) == len(every), (operation, few, every)
    if operation != "list_capacity_providers":
        assert len(every) >= MANY and pages >= 3, (operation, every, pages)
        start, _ = items(operation, PageSize=2, MaxItems=3)
        assert start == every[:3], (operation, start, every)


known = session.get_service_model("lambda")
paginators = [n for n in sorted(dir(client)) if not n.startswith("_") and client.meta.method_to_api_mapping.get(n) and client.can_paginate(n)]
try:
    prepare()
    for operation in paginators:
        if operation in REFUSED:
            arguments, error = REFUSED[operation]
            try:
                list(client.get_paginator(operation).paginate(**arguments))
                raise AssertionError(operation + " answers")
            except botocore.exceptions.ClientError as e:
                assert e.response["Error"]["Code"] == error, (operation, e.response)
        else:
            assert operation in RESULT, "the paginator of %s is not tried" % operation
            page(operation)
finally:
    remove()
print(json.dumps({"botocore": botocore.__version__, "paginators": paginators, "waiters": client.waiter_names}))
