# The rule by itself; the whole table of cases is tests/data/policy.yaml, run against OPA, the embedded engine and Envoy.
package fiware.service_test

import data.fiware.service

# The example key of RFC 7515, appendix A.3: published, for tests only.
private_key := {
	"kty": "EC",
	"crv": "P-256",
	"x": "f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU",
	"y": "x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0",
	"d": "jpsQnnGQmL-YBIffH1136cspYG6-0iY7X1fCE9-E9LI",
}

config := {
	"jwks": {"keys": [object.remove(private_key, ["d"])]},
	"issuer": "",
	"audiences": [],
	"strict_compat": false,
}

later := (time.now_ns() / 1000000000) + 60

token(claims) := io.jwt.encode_sign({"alg": "ES256"}, claims, private_key)

asked(authorization, tenant) := {"attributes": {"request": {"http": {"headers": {
	"authorization": authorization,
	"fiware-service": tenant,
}}}}}

judged(claims, tenant, settings) := answer if {
	request := asked(sprintf("Bearer %s", [token(claims)]), tenant)
	answer := service.allow with input as request with data.fiware.config as settings
}

test_the_own_tenant_is_allowed_and_named if {
	answer := judged({"tenant": "acme", "exp": later}, "acme", config)
	answer == {"allowed": true, "headers": {"x-auth-tenant": "acme"}}
}

test_another_tenant_is_forbidden if {
	answer := judged({"tenant": "acme", "exp": later}, "other", config)
	answer.http_status == 403
	json.unmarshal(answer.body).description == "tenant mismatch"
}

test_a_request_without_a_token_is_unauthenticated if {
	answer := service.allow with input as {"attributes": {"request": {"http": {"headers": {}}}}}
		with data.fiware.config as config
	answer.http_status == 401
	startswith(answer.headers["www-authenticate"], "Bearer ")
}

test_every_expiry_but_a_later_number_is_refused if {
	every exp in [0, 1, later - 120, sprintf("%d", [ceil(later)]), null, true, [later]] {
		judged({"tenant": "acme", "exp": exp}, "acme", config).http_status == 401
	}
	judged({"tenant": "acme"}, "acme", config).http_status == 401
}

test_a_token_that_starts_later_is_refused if {
	judged({"tenant": "acme", "exp": later, "nbf": later}, "acme", config).http_status == 401
	judged({"tenant": "acme", "exp": later, "nbf": later - 120}, "acme", config).allowed
}

test_issuer_and_audience_count_when_configured if {
	settings := object.union(config, {"issuer": "https://id", "audiences": ["mesh", "api"]})
	good := {"tenant": "acme", "exp": later, "iss": "https://id", "aud": "mesh"}
	judged(good, "acme", settings).allowed
	judged(object.union(good, {"aud": ["x", "api"]}), "acme", settings).allowed
	every changed in [{"aud": "x"}, {"aud": ["x"]}, {"aud": 7}, {"iss": "other"}, {"iss": 7}] {
		judged(object.union(good, changed), "acme", settings).http_status == 401
	}
	judged(object.remove(good, ["aud"]), "acme", settings).http_status == 401
	judged(object.remove(good, ["iss"]), "acme", settings).http_status == 401
}

test_a_tenant_has_one_spelling if {
	every tenant in ["", "ACME", "a-b", "a b", "a,a", sprintf("%s%s", ["a", "é"]), " acme"] {
		not judged({"tenant": tenant, "exp": later}, tenant, config).allowed
	}
	every tenant in [7, null, ["acme"], {"a": "b"}] {
		judged({"tenant": tenant, "exp": later}, "acme", config).http_status == 401
	}
}

test_strict_compat_is_a_bare_403 if {
	settings := object.union(config, {"strict_compat": true})
	answer := judged({"tenant": "acme"}, "acme", settings)
	answer == {"allowed": false, "http_status": 403}
}

test_the_published_demo_key_is_not_among_the_keys if {
	some modulus in service.published_moduli
	settings := object.union(config, {"jwks": {"keys": [{"kty": "RSA", "n": modulus, "e": "AQAB"}]}})
	keys := json.unmarshal(service.keys_of("RSA")) with data.fiware.config as settings
	keys == {"keys": []}
}
