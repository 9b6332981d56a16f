//! What is refused, with which words; and what is stored of odd input.

use serde_json::{Value, json};

use crate::api::Api;

#[tokio::test]
async fn parameters_are_refused_in_the_words_of_the_original() {
    let api = Api::new().await;
    api.notify(json!([{"id": "a", "type": "A", "n": {"type": "Number", "value": 1.5}, "s": {"type": "Text", "value": "x"}}])).await;
    let problem = |detail: &str| json!({"detail": detail, "status": 400, "title": "Bad Request", "type": "about:blank"});
    let described = |error: &str, description: &str| json!({"error": error, "description": description});
    let bad_use = |description: &str| described("Bad parameters use", description);
    let not_option = described("Not implemented option", "aggrScope and options are not yet implemented.");
    let bad_date = described(
        "<class 'exceptions.exceptions.InvalidParameterValue'>",
        "The parameter value 'xx' for parameter **fromDate** or **toDate** is not valid.",
    );
    for (path, status, body) in [
        ("/v2/attrs?limit=x", 400, problem("Wrong type, expected 'integer' for query parameter 'limit'")),
        ("/v2/attrs?lastN=1.5", 400, problem("Wrong type, expected 'integer' for query parameter 'lastN'")),
        ("/v2/attrs?limit=0", 400, problem("0 is less than the minimum of 1")),
        ("/v2/attrs?offset=-1", 400, problem("-1 is less than the minimum of 0")),
        (
            "/v2/attrs?aggrMethod=mean",
            400,
            problem("'mean' is not one of ['count', 'sum', 'avg', 'min', 'max']"),
        ),
        ("/v2/attrs?options=other", 400, problem("'other' is not one of ['keyValues', 'values']")),
        ("/v2/attrs?options=values", 501, not_option.clone()),
        ("/v2/types/A?aggrScope=global", 501, not_option),
        (
            "/v2/types/A?aggrMethod=avg",
            400,
            bad_use("Specified aggrMethod = avg but missing attrs parameter."),
        ),
        ("/v2/attrs/n?aggrPeriod=day", 400, bad_use("aggrMethod is compulsory when using aggrPeriod.")),
        ("/v2/entities/a/attrs/n?fromDate=xx", 422, bad_date.clone()),
        ("/v2/attrs/n?toDate='xx'", 422, bad_date),
        (
            "/v2/entities/a/attrs/s?aggrMethod=avg",
            404,
            described(
                "AggrMethod cannot be applied",
                "AggrMethod cannot be applied on type TEXT and BOOLEAN.",
            ),
        ),
        (
            "/v2/attrs/n?georel=near;maxDistance:5&geometry=point&coords=1,2",
            501,
            described("Not Implemented", "Geographical queries are not yet implemented."),
        ),
    ] {
        let answer = api.get(path).await;
        assert_eq!((answer.status.as_u16(), answer.json()), (status, body), "{path}");
        let kind = if answer.json().get("detail").is_some() {
            "application/problem+json"
        } else {
            "application/json"
        };
        assert_eq!(answer.headers["content-type"], kind, "{path}");
    }
    for path in ["/v2/attrs?idPattern=(", "/v2/attrs?idPattern=((a{1000}){1000}){1000}"] {
        assert_eq!(api.get(path).await.status, 400, "{path}");
    }
}

#[tokio::test]
async fn unknown_paths_and_methods_are_problems() {
    let api = Api::new().await;
    for path in ["/v2/types", "/v2/entities/a/attrs", "/v2/subscriptions", "/v2/subscribe", "/config", "/"] {
        let answer = api.get(path).await;
        assert_eq!((answer.status.as_u16(), &answer.json()["title"]), (404, &json!("Not Found")), "{path}");
        assert_eq!(answer.headers["content-type"], "application/problem+json");
    }
    let wrong = api.send("PUT", "/v2/notify", &[], "").await;
    assert_eq!((wrong.status.as_u16(), &wrong.json()["title"]), (405, &json!("Method Not Allowed")));
    assert_eq!(wrong.headers["allow"], "POST");
    let config = api.send("POST", "/management/config", &[], "{}").await;
    assert_eq!(
        (config.status.as_u16(), config.json()),
        (501, json!({"error": "Not Implemented", "description": "This API method is not yet implemented."}))
    );
}

#[tokio::test]
async fn notifications_are_validated_before_anything_is_stored() {
    let api = Api::new().await;
    let good = json!({"id": "a", "type": "A", "n": {"type": "Number", "value": 1}});
    let deep = format!("{}1{}", "[".repeat(1000), "]".repeat(1000));
    for (body, detail) in [
        ("{", "Request body is not valid JSON".to_owned()),
        ("", "Request body is not valid JSON".to_owned()),
        (&deep, "Request body is not valid JSON".to_owned()),
        ("[]", "[] is not of type 'object'".to_owned()),
        ("{}", "'data' is a required property".to_owned()),
        ("{\"data\":{}}", "{} is not of type 'array' - 'data'".to_owned()),
        ("{\"data\":[{\"id\":\"a\"}]}", "'type' is a required property - 'data.0'".to_owned()),
        (
            &json!({"data": [good, {"type": "A"}]}).to_string(),
            "'id' is a required property - 'data.1'".to_owned(),
        ),
    ] {
        let answer = api.send("POST", "/v2/notify", &[], body).await;
        assert_eq!((answer.status.as_u16(), &answer.json()["detail"]), (400, &json!(detail)), "{body}");
    }
    let paths = api.notify_at("/a, /b", json!([good])).await;
    assert_eq!(paths.status, 400);
    assert!(paths.text.starts_with("\"Notification not processed or not updated: "), "{}", paths.text);
    let text = api.send("POST", "/v2/notify", &[("Content-Type", "text/plain")], "{}").await;
    assert_eq!(text.status, 415);
    let large = api.send("POST", "/v2/notify", &[], &" ".repeat((1 << 20) + 1)).await;
    assert_eq!(large.status, 413);
    for tenant in ["a-b", "a b", &"x".repeat(51)] {
        assert_eq!(
            api.send("GET", "/v2/attrs", &[("Fiware-Service", tenant)], "").await.status,
            400,
            "{tenant}"
        );
    }
    assert_eq!(api.get("/v2/entities").await.text, "[]", "nothing of a refused batch is stored");
    for body in [
        json!([]),
        json!([{"id": "a", "type": "A"}]),
        json!([{"id": "a", "type": "A", "n": {"type": "Number", "value": null}}]),
    ] {
        assert_eq!(api.notify(body).await.status, 200);
    }
    assert_eq!(api.get("/v2/entities").await.text, "[]");
}

#[tokio::test]
async fn a_lone_zero_is_a_reading() {
    let api = Api::new().await;
    for (attribute, value) in [("f", json!(0.0)), ("i", json!(0)), ("b", json!(false))] {
        api.notify(json!([{"id": attribute, "type": "Z", attribute: {"value": value}}])).await;
        let path = format!("/v2/entities/{attribute}/attrs/{attribute}/value");
        assert_eq!(api.get(&path).await.json()["values"], json!([value]), "{attribute}");
    }
}

#[tokio::test]
async fn every_kind_of_value_comes_back() {
    let api = Api::new().await;
    let place = json!({"type": "Point", "coordinates": [9.1, 45.2]});
    let cases = [
        ("number", "Number", json!(1.25), json!(1.25)),
        ("integer", "Integer", json!(7.9), json!(7)),
        ("flag", "Boolean", json!("TRUE"), json!(true)),
        ("text", "Text", json!("ü'\""), json!("ü'\"")),
        ("when", "DateTime", json!("2030-01-01T00:00:00+02:00"), json!("2029-12-31T22:00:00.000+00:00")),
        ("object", "StructuredValue", json!({"b": [1, {"a": null}]}), json!({"b": [1, {"a": null}]})),
        ("list", "Array", json!([1, "a"]), json!([1, "a"])),
        ("point", "geo:point", json!("45.2,9.1"), json!("45.2, 9.1")),
        ("line", "geo:line", json!(["1, 2", "3, 4"]), json!(["1, 2", "3, 4"])),
        ("shape", "geo:json", place.clone(), place.clone()),
        ("location", "geo:point", json!("45.2, 9.1"), place),
        ("Odd name, ü", "Text", json!("x"), json!("x")),
    ];
    let mut entity = json!({"id": "all", "type": "Kinds"});
    for (name, declared, value, _) in &cases {
        entity[*name] = json!({"type": declared, "value": value});
    }
    assert_eq!(api.notify(json!([entity])).await.status, 200);
    let answer = api.get("/v2/entities/all").await.json();
    let attributes = answer["attributes"].as_array().unwrap();
    let shown =
        |name: &str| attributes.iter().find(|shown| shown["attrName"] == name).unwrap()["values"][0].clone();
    for (name, _, _, expected) in &cases {
        assert_eq!(shown(name), *expected, "{name}");
    }
    assert_eq!(shown("location_centroid"), "45.2, 9.1");
}

#[tokio::test]
async fn a_value_that_does_not_fit_is_null_and_a_later_one_that_does_is_cast() {
    let api = Api::new().await;
    for value in [json!(1), json!("warm"), json!("2.5"), Value::Null] {
        let n = json!({"type": if value.is_string() { "Text" } else { "Number" }, "value": value});
        api.notify(json!([{"id": "a", "type": "A", "N": n, "other": {"value": 1}}])).await;
    }
    assert_eq!(api.get("/v2/entities/a/attrs/n/value").await.json()["values"], json!([1.0, null, 2.5, null]));
    assert_eq!(api.get("/v2/entities/a").await.json()["attributes"][0]["attrName"], "N");
}

#[tokio::test]
async fn names_are_matched_without_case_and_odd_ids_are_kept() {
    let api = Api::new().await;
    let id = "urn:ngsi:ü 'q' /x%2F";
    for (name, attribute) in [("Odd Type", "Temp"), ("ODD TYPE", "TEMP")] {
        api.notify(json!([{"id": id, "type": name, attribute: {"value": 1.5}}])).await;
    }
    let path = format!(
        "/v2/entities/{}",
        percent_encoding::utf8_percent_encode(id, percent_encoding::NON_ALPHANUMERIC)
    );
    let answer = api.get(&path).await.json();
    assert_eq!((&answer["id"], &answer["type"]), (&json!(id), &json!("Odd Type")));
    assert_eq!(answer["attributes"], json!([{"attrName": "Temp", "values": [1.5, 1.5]}]));
    assert_eq!(api.get("/v2/types/odd%20type/attrs/temp").await.json()["type"], "odd type");
}

#[tokio::test]
async fn tenants_and_service_paths_keep_apart() {
    let api = Api::new().await;
    let entity = |n: i64| json!([{"id": "a", "type": "A", "n": {"type": "Integer", "value": n}}]);
    for (path, n) in [("/", 1), ("/x", 2), ("/x/y", 3), ("/xy", 4)] {
        api.notify_at(path, entity(n)).await;
    }
    api.send(
        "POST",
        "/v2/notify",
        &[("NGSILD-Tenant", "u"), ("Fiware-Service", "t")],
        &json!({"data": entity(9)}).to_string(),
    )
    .await;
    let values = |tenant: &'static str, path: &'static str| {
        let api = &api;
        async move {
            let headers = [("Fiware-Service", tenant), ("Fiware-ServicePath", path)];
            let answer = api.send("GET", "/v2/entities/a/attrs/n/value", &headers, "").await.json();
            let mut values: Vec<i64> = answer["values"]
                .as_array()
                .map_or(vec![], |list| list.iter().filter_map(Value::as_i64).collect());
            values.sort_unstable();
            values
        }
    };
    assert_eq!(values("t", "/").await, [1, 2, 3, 4]);
    assert_eq!(values("T", "/x").await, [2, 3]);
    assert_eq!(values("t", "/x/y").await, [3]);
    assert_eq!(values("t", "/x/y, /xy").await, [3, 4]);
    assert_eq!(values("u", "/").await, [9]);
    assert_eq!(values("v", "/").await, Vec::<i64>::new());
    let many =
        json!([{"id": "b", "type": "A", "n": {"value": 1}}, {"id": "c", "type": "A", "n": {"value": 2}}]);
    assert_eq!(api.notify_at("/p , /q", many).await.status, 200);
    let seen = api.send("GET", "/v2/entities", &[("Fiware-ServicePath", "/q")], "").await.json();
    assert_eq!((seen.as_array().unwrap().len(), &seen[0]["id"]), (1, &json!("c")));
}

#[tokio::test]
async fn an_id_of_several_types_is_ambiguous() {
    let api = Api::new().await;
    for name in ["A", "B"] {
        api.notify(json!([{"id": "x", "type": name, "n": {"value": 1}}])).await;
    }
    let answer = api.get("/v2/entities/x/attrs/n").await;
    assert_eq!(answer.status, 400);
    assert_eq!(
        answer.json(),
        json!({"error": "<class 'exceptions.exceptions.AmbiguousNGSIIdError'>",
        "description": "There are multiple entities with the given entity_id x. Please specify entity_type."})
    );
    assert_eq!(api.get("/v2/entities/x?type=b").await.json()["type"], "B");
    assert_eq!(api.get("/v2/entities").await.json().as_array().unwrap().len(), 2);
}

#[tokio::test]
async fn equal_times_are_two_rows_and_late_rows_are_sorted_in() {
    let api = Api::new().await;
    for (n, at) in [(1, "2030-01-01T00:00:02Z"), (2, "2030-01-01T00:00:01Z"), (3, "2030-01-01T00:00:02Z")] {
        api.notify(json!([{"id": "a", "type": "A", "n": {"type": "Integer", "value": n}, "TimeInstant": {"type": "DateTime", "value": at}}])).await;
    }
    assert_eq!(api.get("/v2/entities/a/attrs/n/value").await.json()["values"], json!([2, 1, 3]));
}
