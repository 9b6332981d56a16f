//! Answer shapes (contract section 6, "Answer shapes"), written without copies of the values.

use serde::{Serialize, Serializer, ser::SerializeMap};

use crate::{
    cell::{Cell, Kind, Shown},
    query::{EntityRows, TypeRows},
    time,
};

/// A JSON document that borrows what it shows.
pub(super) enum Json<'a> {
    Text(&'a str),
    Owned(String),
    /// Instants, as texts.
    Index(&'a [i64]),
    Cells(Kind, &'a [Cell]),
    List(Vec<Json<'a>>),
    Object(Vec<(&'a str, Json<'a>)>),
}

impl Serialize for Json<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Text(text) => serializer.serialize_str(text),
            Self::Owned(text) => serializer.serialize_str(text),
            Self::Index(times) => serializer.collect_seq(times.iter().map(|at| time::format_ms(*at))),
            Self::Cells(kind, cells) => serializer.collect_seq(cells.iter().map(|cell| Shown(*kind, cell))),
            Self::List(items) => serializer.collect_seq(items),
            Self::Object(fields) => {
                let mut map = serializer.serialize_map(Some(fields.len()))?;
                for (name, value) in fields {
                    map.serialize_entry(name, value)?;
                }
                map.end()
            }
        }
    }
}

/// What an aggregate without period shows as its index.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Ends {
    None,
    Texts(String, String),
}

/// How one request is answered.
pub(super) struct Shape<'a> {
    /// Names of the id and type fields, by dialect.
    pub(super) id: &'static str,
    pub(super) entity_type: &'static str,
    /// The `…/value` form.
    pub(super) bare: bool,
    /// The attribute as the request spells it; `None` = several.
    pub(super) attribute: Option<&'a str>,
    /// Set for an aggregate without period.
    pub(super) ends: Option<Ends>,
}

type Fields<'a> = Vec<(&'a str, Json<'a>)>;

impl<'a> Shape<'a> {
    fn index(&self, entity: &'a EntityRows) -> Json<'a> {
        match &self.ends {
            None => Json::Index(&entity.times),
            Some(Ends::None) => Json::List(Vec::new()),
            Some(Ends::Texts(from, to)) => {
                Json::List(vec![Json::Owned(from.clone()), Json::Owned(to.clone())])
            }
        }
    }

    fn values(rows: &'a TypeRows, entity: &'a EntityRows, attribute: usize) -> Json<'a> {
        let cells = entity.columns.get(attribute).map_or(&[][..], Vec::as_slice);
        Json::Cells(rows.attributes[attribute].kind, cells)
    }

    fn attributes(rows: &'a TypeRows, entity: &'a EntityRows) -> Json<'a> {
        let shown = rows.attributes.iter().enumerate().map(|(no, info)| {
            Json::Object(vec![
                ("attrName", Json::Text(&info.name)),
                ("values", Self::values(rows, entity, no)),
            ])
        });
        Json::List(shown.collect())
    }

    /// Index, and values or attributes.
    fn series(&self, rows: &'a TypeRows, entity: &'a EntityRows) -> Fields<'a> {
        let content = match self.attribute {
            Some(_) => ("values", Self::values(rows, entity, 0)),
            None => ("attributes", Self::attributes(rows, entity)),
        };
        vec![("index", self.index(entity)), content]
    }

    /// 1T1E1A and 1T1ENA.
    pub(super) fn one_entity(&self, rows: &'a TypeRows, entity: &'a EntityRows) -> Json<'a> {
        if self.bare {
            return Json::Object(self.series(rows, entity));
        }
        let mut fields = vec![(self.id, Json::Text(&entity.id)), (self.entity_type, Json::Text(&rows.name))];
        fields.extend(self.attribute.map(|name| ("attrName", Json::Text(name))));
        fields.extend(self.series(rows, entity));
        Json::Object(fields)
    }

    fn entities(&self, rows: &'a TypeRows) -> Json<'a> {
        let shown = rows.entities.iter().map(|entity| {
            let mut fields = vec![(self.id, Json::Text(&entity.id))];
            fields.extend(self.series(rows, entity));
            Json::Object(fields)
        });
        Json::List(shown.collect())
    }

    /// 1TNE1A and 1TNENA; the type is spelled as in the request.
    pub(super) fn one_type(&self, rows: &'a TypeRows, asked: &'a str) -> Json<'a> {
        if self.bare {
            return Json::Object(vec![("values", self.entities(rows))]);
        }
        let mut fields = vec![(self.entity_type, Json::Text(asked))];
        fields.extend(self.attribute.map(|name| ("attrName", Json::Text(name))));
        fields.push(("entities", self.entities(rows)));
        Json::Object(fields)
    }

    /// NTNE1A.
    pub(super) fn one_attribute(&self, types: &'a [TypeRows], asked: &'a str) -> Json<'a> {
        let shown = types.iter().map(|rows| {
            Json::Object(vec![(self.entity_type, Json::Text(&rows.name)), ("entities", self.entities(rows))])
        });
        let shown = Json::List(shown.collect());
        if self.bare {
            return Json::Object(vec![("values", shown)]);
        }
        Json::Object(vec![("attrName", Json::Text(asked)), ("types", shown)])
    }

    /// NTNENA: by attribute, then by type.
    pub(super) fn everything(&self, types: &'a [TypeRows]) -> Json<'a> {
        let mut attributes: Vec<(&'a str, Vec<Json<'a>>)> = Vec::new();
        for rows in types {
            for (no, info) in rows.attributes.iter().enumerate() {
                let entities = rows.entities.iter().map(|entity| {
                    let values = Self::values(rows, entity, no);
                    let index = ("index", self.index(entity));
                    Json::Object(vec![(self.id, Json::Text(&entity.id)), index, ("values", values)])
                });
                let shown = Json::Object(vec![
                    (self.entity_type, Json::Text(&rows.name)),
                    ("entities", Json::List(entities.collect())),
                ]);
                match attributes.iter_mut().find(|(name, _)| name.eq_ignore_ascii_case(&info.name)) {
                    Some((_, types)) => types.push(shown),
                    None => attributes.push((&info.name, vec![shown])),
                }
            }
        }
        let shown = attributes.into_iter().map(|(name, types)| {
            Json::Object(vec![("attrName", Json::Text(name)), ("types", Json::List(types))])
        });
        let name = if self.bare { "values" } else { "attrs" };
        Json::Object(vec![(name, Json::List(shown.collect()))])
    }
}
