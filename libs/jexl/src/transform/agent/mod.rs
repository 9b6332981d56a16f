//! The device agent's transforms (iot-agent.md 3.1). They convert as JavaScript does; what throws there fails here.

mod collection;
mod date;
mod locale;
mod number;
mod rounding;
mod text;

use super::{Transform, plain, search, total};

pub(super) const TRANSFORMS: &[Transform] = &[
    plain("jsonparse", text::json_parse),
    plain("jsonstringify", text::json_stringify),
    plain("indexOf", text::index_of),
    plain("length", text::length),
    plain("trim", text::trim),
    plain("substr", text::substr),
    plain("addreduce", collection::add_reduce),
    plain("lengtharray", collection::length_array),
    total("typeof", collection::type_of),
    total("isarray", collection::is_array),
    total("isnan", number::is_nan),
    plain("parseint", number::parse_int),
    plain("parsefloat", number::parse_float),
    plain("toisodate", date::to_iso),
    plain("toisostring", date::to_iso),
    plain("timeoffset", date::time_offset),
    plain("gettime", date::get_time),
    plain("now", date::now),
    plain("tostring", text::to_string),
    plain("urlencode", text::url_encode),
    plain("urldecode", text::url_decode),
    plain("replacestr", text::replace_str),
    search("replaceregexp", text::replace_regexp),
    plain("replaceallstr", text::replace_all_str),
    search("replaceallregexp", text::replace_all_regexp),
    plain("split", text::split),
    plain("joinarrtostr", collection::join),
    plain("concatarr", collection::concat),
    plain("mapper", collection::mapper),
    plain("thmapper", collection::th_mapper),
    plain("bitwisemask", number::bitwise_mask),
    plain("slice", collection::slice),
    plain("addset", collection::add_to_set),
    plain("removeset", collection::remove_from_set),
    plain("touppercase", text::to_upper_case),
    plain("tolowercase", text::to_lower_case),
    plain("floor", number::floor),
    plain("ceil", number::ceil),
    plain("round", number::round),
    plain("tofixed", number::to_fixed),
    plain("localestring", locale::date),
    plain("localestringnumber", locale::number),
    plain("hextostring", text::hex_to_string),
    plain("valuePicker", collection::value_picker),
    plain("valuePickerMulti", collection::value_picker_multi),
    plain("hash", text::hash),
];
