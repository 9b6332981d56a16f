//! The broker's transforms (ngsi-v2.md 8). A subject or argument of the wrong kind gives null.

mod array;
mod number;
mod text;

use super::{Transform, plain, search};

pub(super) const TRANSFORMS: &[Transform] = &[
    plain("uppercase", text::uppercase),
    plain("lowercase", text::lowercase),
    plain("split", text::split),
    plain("indexOf", text::index_of),
    plain("len", text::len),
    plain("trim", text::trim),
    plain("substring", text::substring),
    plain("includes", text::includes),
    plain("replaceStr", text::replace_str),
    search("replaceRegex", text::replace_regex),
    search("matchRegex", text::match_regex),
    plain("toString", text::to_string),
    plain("toJson", text::to_json),
    plain("typeOf", text::type_of),
    plain("isNaN", number::is_nan),
    plain("parseInt", number::parse_int),
    plain("parseFloat", number::parse_float),
    plain("floor", number::floor),
    plain("ceil", number::ceil),
    plain("round", number::round),
    plain("toFixed", number::to_fixed),
    plain("log", number::log),
    plain("log10", number::log10),
    plain("log2", number::log2),
    plain("sqrt", number::sqrt),
    plain("now", number::now),
    plain("toIsoString", number::to_iso_string),
    plain("getTime", number::get_time),
    plain("mapper", array::mapper),
    plain("nMapper", array::n_mapper),
    plain("thMapper", array::th_mapper),
    plain("values", array::values),
    plain("keys", array::keys),
    plain("arrSum", array::sum),
    plain("arrAvg", array::average),
    plain("arrMax", array::max),
    plain("arrMin", array::min),
    plain("arrMed", array::median),
    plain("arrSort", array::sort),
    plain("arrReverse", array::reverse),
];
