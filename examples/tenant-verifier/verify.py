#!/usr/bin/env python3
"""Checks a tenant token, as a provider's service does before it gives out a tenant's data.

It knows where the public keys are, who signs, whose functions it serves, and what it is called itself. The account matters: anybody
who may make functions on the same server chooses the audience and the tenants of their own. It needs the package
"cryptography" only.

    ./verify.py --jwks http://127.0.0.1:9000/.well-known/jwks.json --account 000000000001 \\
        --audience https://data.example.com --tenant blue TOKEN

prints what the token says, or says why it is refused and exits with 1.
"""

import argparse
import base64
import json
import sys
import time
import urllib.request

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

LEEWAY = 60  # seconds by which clocks may differ
MAX_TOKEN = 8 << 10
MAX_KEYS = 1 << 20


class Refused(Exception):
    """Why a token is not taken."""


def decode(part):
    return base64.b64decode(part + "=" * (-len(part) % 4), altchars=b"-_", validate=True)


def read_keys(url):
    """The issuer's public keys, by their ids. Keep them for some minutes; read them again for an id that is not among them."""
    with urllib.request.urlopen(url, timeout=5) as answer:
        keys = json.loads(answer.read(MAX_KEYS))["keys"]
    return {k["kid"]: Ed25519PublicKey.from_public_bytes(decode(k["x"])) for k in keys if k.get("crv") == "Ed25519"}


def verify(token, keys, issuer, account, audience):
    """What the token says, if it is signed by the issuer for a function of the account, meant for this audience, and not expired."""
    if len(token) > MAX_TOKEN or token.count(".") != 2:
        raise Refused("not a token")
    signed, _, signature = token.rpartition(".")
    try:
        header, claims = (json.loads(decode(part)) for part in signed.split("."))
        signature = decode(signature)
    except ValueError as e:
        raise Refused("not a token") from e
    if not isinstance(header, dict) or not isinstance(claims, dict) or header.get("alg") != "EdDSA":
        raise Refused("not signed with EdDSA")  # the algorithm is ours to say, not the token's
    key = keys.get(header.get("kid"))
    if key is None:
        raise Refused("signed with a key that is not the issuer's")
    try:
        key.verify(signature, signed.encode())
    except InvalidSignature as e:
        raise Refused("the signature is not the issuer's") from e
    audiences = claims.get("aud")
    if claims.get("iss") != issuer or audience not in (audiences if isinstance(audiences, list) else [audiences]):
        raise Refused("from another issuer, or meant for somebody else")
    if claims.get("account") != account:
        raise Refused("of another account's function")
    if not isinstance(claims.get("exp"), (int, float)) or time.time() > claims["exp"] + LEEWAY:
        raise Refused("expired")
    if not claims.get("tenant"):
        raise Refused("names no tenant")
    return claims


def main():
    arguments = argparse.ArgumentParser(description="Checks a tenant token.")
    arguments.add_argument("--jwks", required=True, help="URL of the public keys")
    arguments.add_argument("--issuer", default="urn:berth", help="who signs")
    arguments.add_argument("--account", required=True, help="whose functions are served")
    arguments.add_argument("--audience", required=True, help="what this service is called in tokens")
    arguments.add_argument("--tenant", required=True, help="whose data is asked for")
    arguments.add_argument("token")
    a = arguments.parse_args()
    try:
        claims = verify(a.token, read_keys(a.jwks), a.issuer, a.account, a.audience)
        if claims["tenant"] != a.tenant:
            raise Refused("another tenant's")
    except Refused as e:
        print("refused:", e, file=sys.stderr)
        return 1
    print(json.dumps(claims))
    return 0


if __name__ == "__main__":
    sys.exit(main())
