import base64
import hmac
import http.server
import json
import threading
import time
from types import SimpleNamespace

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from ct_files import encode_ct

from tumorflow.serving.settings import read_keys
from tumorflow.serving.tokens import BETWEEN_FETCHES_S, Issuer

KEY = "0123456789abcdef0123456789"
KEYS = {name: rsa.generate_private_key(65537, 2048) for name in ("first", "second", "strangers")}
CURVE = ec.generate_private_key(ec.SECP256R1())


def publish(name, private):
    algorithm = jwt.algorithms.RSAAlgorithm if private is not CURVE else jwt.algorithms.ECAlgorithm
    return {**json.loads(algorithm.to_jwk(private.public_key())), "kid": name, "use": "sig"}


@pytest.fixture
def provider():
    """Returns a provider on this machine: its address, what it publishes, and how often it was asked."""
    told = SimpleNamespace(keys=[publish("first", KEYS["first"])], asked=0, broken=False, issuer="")

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            told.asked += self.path == "/keys"
            page = {
                "/.well-known/openid-configuration": {
                    "issuer": told.issuer,
                    "jwks_uri": f"{told.address}/keys",
                },
                "/keys": {"keys": told.keys},
            }[self.path]
            body = b"<html>" if told.broken else json.dumps(page).encode()
            self.send_response(200)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    told.issuer = told.address = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield told
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def clock():
    return SimpleNamespace(now=1000.0)


@pytest.fixture
def guarded(serve, write_model, tmp_path, provider, clock):
    issuer = Issuer(provider.address, "tumorflow", clock=lambda: clock.now)
    keys = read_keys({"TUMORFLOW_API_KEYS": f"ward:{KEY}"})
    return serve(write_model(tmp_path / "model.tflite"), keys=keys, issuer=issuer)


def sign(provider, private=KEYS["first"], kid="first", algorithm="RS256", without=(), **changes):
    now = int(time.time())
    claims = {"iss": provider.address, "aud": "tumorflow", "sub": "jane@ward", "exp": now + 300, **changes}
    kept = {name: value for name, value in claims.items() if name not in without}
    return jwt.encode(kept, private, algorithm=algorithm, headers={"kid": kid})


def ask(client, token):
    return client.predict(encode_ct(), Authorization=f"Bearer {token}")


def test_a_token_of_the_issuer_is_answered_and_its_subject_is_not_logged(guarded, provider):
    assert ask(guarded, sign(provider)).status == 200
    line = json.loads(guarded.log[-1])
    assert line["caller"].startswith("oidc-")
    assert "jane" not in guarded.log[-1]
    assert ask(guarded, KEY).status == 200, "keys are taken beside tokens"
    assert json.loads(guarded.log[-1])["caller"] == "ward"
    assert provider.asked == 1


def test_a_token_on_an_elliptic_curve_is_answered(guarded, provider):
    provider.keys = [publish("curve", CURVE)]
    assert ask(guarded, sign(provider, CURVE, "curve", "ES256")).status == 200


def test_tokens_that_do_not_hold_are_refused(guarded, provider):
    now = int(time.time())
    public = KEYS["first"].public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    header, claims, signature = sign(provider).split(".")
    other = base64.urlsafe_b64encode(b'{"sub": "joe"}').rstrip(b"=").decode()
    hashed = (
        base64.urlsafe_b64encode(b'{"alg": "HS256", "kid": "first"}').rstrip(b"=").decode() + "." + claims
    )
    mac = base64.urlsafe_b64encode(hmac.digest(public, hashed.encode(), "sha256")).rstrip(b"=").decode()
    unsigned = base64.urlsafe_b64encode(b'{"alg": "none", "kid": "first"}').rstrip(b"=").decode()
    refused = {
        "expired": sign(provider, exp=now - 60),
        "not yet": sign(provider, nbf=now + 600),
        "for others": sign(provider, aud="other"),
        "of others": sign(provider, iss="https://login.example"),
        "strangers' key": sign(provider, KEYS["strangers"]),
        "shared secret": f"{hashed}.{mac}",
        "never ends": sign(provider, without=("exp",)),
        "for nobody": sign(provider, without=("aud",)),
        "nobody's": sign(provider, without=("sub",)),
        "changed": f"{header}.{other}.{signature}",
        "unsigned": f"{unsigned}.{claims}.",
        "no token": "a.b.c",
        "not ASCII": "ä.ö.ü",
        "too long": "a" * 20_000 + ".b.c",
    }
    answers = {name: ask(guarded, token.encode().decode("latin-1")).status for name, token in refused.items()}
    assert answers == dict.fromkeys(refused, 401)
    assert ask(guarded, sign(provider)).status == 200


def test_a_new_key_is_fetched_and_unknown_ones_are_not_asked_for_each_time(guarded, provider, clock):
    assert ask(guarded, sign(provider)).status == 200
    provider.keys.append(publish("second", KEYS["second"]))
    turned = sign(provider, KEYS["second"], "second")
    assert [ask(guarded, turned).status for _ in range(5)] == [401] * 5
    assert provider.asked == 1
    clock.now += BETWEEN_FETCHES_S
    assert ask(guarded, turned).status == 200
    assert provider.asked == 2


def test_a_key_that_the_issuer_took_back_is_forgotten(guarded, provider, clock):
    token = sign(provider)
    assert ask(guarded, token).status == 200
    provider.keys = [publish("second", KEYS["second"])]
    clock.now += 3601
    assert ask(guarded, token).status == 401


def test_without_the_provider_tokens_get_503_and_keys_an_answer(guarded, provider, clock):
    provider.broken = True
    answer = ask(guarded, sign(provider))
    assert (answer.status, answer.json["rule"]) == (503, "no_identity_provider")
    assert int(answer.headers["retry-after"]) > 0
    assert ask(guarded, KEY).status == 200
    provider.broken = False
    clock.now += BETWEEN_FETCHES_S
    assert ask(guarded, sign(provider)).status == 200
    provider.broken = True
    clock.now += 3601
    assert ask(guarded, sign(provider)).status == 200, "what is known holds while the provider is away"


def test_a_provider_that_says_it_is_another_is_not_believed(guarded, provider):
    provider.issuer = "https://login.example"
    assert ask(guarded, sign(provider)).status == 503
