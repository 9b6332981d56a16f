# Who may pass the gateway: whoever holds a token of the tenant that the request names in Fiware-Service.
#
# The input is Envoy's ext_authz v3 CheckRequest; the result is the object that OPA's Envoy plugin turns into a response.
# It is evaluated by OPA in a cluster and by the embedded engine in one process: what is used here must mean the same in
# both. Settings are data.fiware.config:
#
#   jwks           the key set, as published by the issuer
#   issuer         the only accepted `iss`; empty: not looked at
#   audiences      a token must be for one of these; empty: not looked at
#   strict_compat  a bare 403 for every refusal, as the first FIWARE policy answered
package fiware.service

import data.fiware.config
import input.attributes.request.http.headers

allow := {
	"allowed": true,
	"headers": {"x-auth-tenant": claims.tenant},
} if {
	claims.tenant == headers["fiware-service"]
} else := {
	"allowed": false,
	"http_status": 403,
} if {
	config.strict_compat
} else := {
	"allowed": false,
	"http_status": 403,
	"headers": {"content-type": "application/json"},
	"body": `{"error":"Forbidden","description":"tenant mismatch"}`,
} if {
	claims
} else := {
	"allowed": false,
	"http_status": 401,
	"headers": {
		"content-type": "application/json",
		"www-authenticate": `Bearer error="invalid_token"`,
	},
	"body": `{"error":"Unauthorized","description":"missing or invalid token"}`,
}

# What decides: these headers, the time, and the settings. The embedded engine shows this policy nothing else, and so may
# remember that a request was allowed, until its token ends. OPA does not ask for these two.
reads := {"authorization", "fiware-service"}

holds_until := claims.exp

# What the token says, once it is known to be genuine, in time, for us, and to name a tenant. Undefined otherwise.
claims := payload if {
	startswith(headers.authorization, "Bearer ")
	token := substring(headers.authorization, 7, -1)

	# The token is decoded after its signature was checked, and by the algorithm that it names itself.
	algorithm := signed_with(token)
	[header, payload, _] := io.jwt.decode(token)
	header.alg == algorithm
	object.get(header, "crit", null) == null

	# `exp` is mandatory. Its upper bound keeps it in the range in which every engine compares exactly.
	now := time.now_ns() / 1000000000
	is_number(payload.exp)
	payload.exp > now
	payload.exp < 1000000000000
	not_before := object.get(payload, "nbf", 0)
	is_number(not_before)
	not_before <= now

	from_issuer(payload)
	for_audience(payload)

	# A tenant is 1 to 50 of a-z, 0-9 and _: with one spelling each, its equality with the header is the whole truth.
	is_string(payload.tenant)
	count(payload.tenant) > 0
	count(payload.tenant) <= 50
	trim(payload.tenant, "abcdefghijklmnopqrstuvwxyz0123456789_") == ""
}

# Each function gets the keys of its own kind only. OPA also remembers an answer by token and keys, not by function: with
# the same keys for both, the first one's "no" would be the second one's.
signed_with(token) := "RS256" if {
	io.jwt.verify_rs256(token, keys_of("RSA"))
} else := "ES256" if {
	io.jwt.verify_es256(token, keys_of("EC"))
}

from_issuer(payload) if {
	config.issuer == ""
} else if {
	payload.iss == config.issuer
}

for_audience(payload) if {
	config.audiences == []
} else if {
	payload.aud in config.audiences
} else if {
	is_array(payload.aud)
	some audience in payload.aud
	audience in config.audiences
}

keys_of(kind) := json.marshal({"keys": [key |
	some key in config.jwks.keys
	key.kty == kind
	not object.get(key, "n", "") in published_moduli
]})

# The demo key pair of the first FIWARE policy is public, its private half too. It is refused however it is configured:
# by its modulus, as written by RFC 7518 and with the leading zero that some converters leave in.
published_moduli := {
	"qM88PI71ThQgHbXSJ0tpSpkgzD8-_5nKaWer0Q9mlR21eDYE_c4esH0DzGlVUxVv4BUUhLz66YB_oGzTKTnWGMXfk1eAWF8zfyOYM_3C2OZAYu_bSaaUyTtn_TjVrXkefuanmKmVId93aNTceVeUmZJ1x9ihY4IsbOJebxv0Zsjvh6xsDU90Ck4ohxPbon5T9e6R37tM6wm9rD6TcOkeYYeP4z4mVfamagp4ZPJC0Y4hdbAB92gDM4-EP31yvFxhyiq3ElR-3O6AIMGMTh1CfbJNuRaf_MfnYRxMpPc8WKH8cCHNSXgA5Ikvx-Yi3fEGF8Xa3h1H0NX48UVf79sFww",
	"AKjPPDyO9U4UIB210idLaUqZIMw_Pv-Zymlnq9EPZpUdtXg2BP3OHrB9A8xpVVMVb-AVFIS8-umAf6Bs0yk51hjF35NXgFhfM38jmDP9wtjmQGLv20mmlMk7Z_041a15Hn7mp5iplSHfd2jU3HlXlJmSdcfYoWOCLGziXm8b9GbI74esbA1PdApOKIcT26J-U_Xukd-7TOsJvaw-k3DpHmGHj-M-JlX2pmoKeGTyQtGOIXWwAfdoAzOPhD99crxcYcoqtxJUftzugCDBjE4dQn2yTbkWn_zH52EcTKT3PFih_HAhzUl4AOSJL8fmIt3xBhfF2t4dR9DV-PFFX-_bBcM",
}
