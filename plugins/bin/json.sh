# shellcheck shell=sh
# Sourced by the programs beside it: turns what they collect into JSON, with nothing but awk.
#
# $JSON_AWK goes in front of an awk program and gives it
#   json(s)                   s as a JSON string, whatever bytes it holds; invalid UTF-8 is dropped
#   text(s)                   the same, or nothing where s is empty
#   number(s)                 s as a JSON number, or nothing where it is no whole number
#   utc(seconds)              seconds since 1970 as a JSON string such as "2026-11-20T10:00:00Z"
#   member(object, name, v)   the object's text with one member more, or as it was where v is nothing
# and json_object and json_array put brackets round lines that are members or elements already.

# Bytes, not characters: awk implementations disagree on anything else, and sort must not.
LC_ALL=C
export LC_ALL

# shellcheck disable=SC2034 # used by the programs that source this file
JSON_AWK='
function json(s,    out, i, n, c, size) {
    if (s !~ /[^ !#-Z_-~]/) return "\"" s "\""
    if (!("A" in json_byte)) json_tables()
    n = length(s)
    for (i = 1; i <= n; i += size) {
        c = substr(s, i, 1)
        size = 1
        if (c in json_escape) out = out json_escape[c]
        else if (json_byte[c] > 127) {
            size = json_sequence(s, i)
            if (size) out = out substr(s, i, size); else size = 1
        }
        else out = out c
    }
    return "\"" out "\""
}

function json_tables(    i, c) {
    for (i = 1; i < 256; i++) {
        c = sprintf("%c", i)
        json_byte[c] = i
        if (i < 32) json_escape[c] = sprintf("\\u%04x", i)
    }
    json_escape["\t"] = "\\t"; json_escape["\n"] = "\\n"; json_escape["\r"] = "\\r"
    json_escape["\""] = "\\\""; json_escape["\\"] = "\\\\"
}

# The length of the well-formed UTF-8 sequence at i (table 3-7 of the Unicode standard), or 0.
function json_sequence(s, i,    lead, size, low, high, j, b) {
    lead = json_byte[substr(s, i, 1)]
    low = 128; high = 191
    if (lead >= 194 && lead <= 223) size = 2
    else if (lead >= 224 && lead <= 239) size = 3
    else if (lead >= 240 && lead <= 244) size = 4
    else return 0
    if (lead == 224) low = 160
    if (lead == 237) high = 159
    if (lead == 240) low = 144
    if (lead == 244) high = 143
    for (j = 1; j < size; j++) {
        b = json_byte[substr(s, i + j, 1)] + 0
        if (b < low || b > high) return 0
        low = 128; high = 191
    }
    return size
}

function text(s) {
    return s == "" ? "" : json(s)
}

function number(s) {
    if (s !~ /^[0-9]+$/) return ""
    sub(/^0+/, "", s)
    return s == "" ? "0" : s
}

# Civil date from days, in the proleptic Gregorian calendar with years that begin in March.
function utc(seconds,    days, rest, era, doe, yoe, doy, mp, month) {
    if (seconds !~ /^[0-9]+$/) return ""
    days = int(seconds / 86400) + 719468
    rest = seconds % 86400
    era = int(days / 146097)
    doe = days - era * 146097
    yoe = int((doe - int(doe / 1460) + int(doe / 36524) - int(doe / 146096)) / 365)
    doy = doe - (365 * yoe + int(yoe / 4) - int(yoe / 100))
    mp = int((5 * doy + 2) / 153)
    month = mp < 10 ? mp + 3 : mp - 9
    return sprintf("\"%04d-%02d-%02dT%02d:%02d:%02dZ\"", yoe + era * 400 + (month <= 2), month,
        doy - int((153 * mp + 2) / 5) + 1, int(rest / 3600), int(rest % 3600 / 60), rest % 60)
}

function member(object, name, v) {
    if (v == "") return object
    return object (object == "" ? "" : ",") json(name) ":" v
}
'

json_object() {
    awk 'BEGIN { printf "{" } { printf "%s%s", comma, $0; comma = ",\n" } END { print "}" }'
}

json_array() {
    awk 'BEGIN { printf "[" } { printf "%s%s", comma, $0; comma = ",\n" } END { print "]" }'
}
