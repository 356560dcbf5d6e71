/* The reading of a plain SIP message in one pass: see scanner.py and message.parse.
 *
 * scan(bytes, names = ()) -> tuple | None. None for whatever is not written in the plainest way (folding, quotes
 * in a Via, parameters besides the tag, repeated single headers, anything ill-formed): then message.parse_slowly
 * reads it, and that is the only place where it is decided what is right. For what this returns, parse_slowly
 * returns the same; a test holds the two together. The last part of the tuple: the lines, counted from the start line,
 * of the headers that one of `names` (bytes in lower case) names; () where there is none.
 */
#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <stdint.h>
#include <string.h>

enum { VIA = 1, ROUTE, RECORD_ROUTE, MAX_FORWARDS, CALL_ID, CSEQ, FROM, TO, CONTACT, CONTENT_LENGTH,
       PROXY_REQUIRE, TIMESTAMP, SESSION_EXPIRES, SLOTS };

typedef struct { const char *p, *e; } span;

static unsigned char token_char[256], host_char[256], uri_char[256];

static int is_token(span s) {
    if (s.p >= s.e) return 0;
    for (const char *c = s.p; c < s.e; c++) if (!token_char[(unsigned char)*c]) return 0;
    return 1;
}

static span trim(span s) {
    while (s.p < s.e && (*s.p == ' ' || *s.p == '\t')) s.p++;
    while (s.e > s.p && (s.e[-1] == ' ' || s.e[-1] == '\t')) s.e--;
    return s;
}

static int same(span s, const char *lower, Py_ssize_t n) {
    if (s.e - s.p != n) return 0;
    for (Py_ssize_t i = 0; i < n; i++) {
        char c = s.p[i];
        if (c >= 'A' && c <= 'Z') c |= 32;
        if (c != lower[i]) return 0;
    }
    return 1;
}

static int slot_of(span n) {
    switch (n.e - n.p) {
    case 1:
        switch (*n.p | 32) {
        case 'v': return VIA;
        case 'i': return CALL_ID;
        case 'f': return FROM;
        case 't': return TO;
        case 'm': return CONTACT;
        case 'l': return CONTENT_LENGTH;
        case 'x': return SESSION_EXPIRES;
        }
        return 0;
    case 2: return same(n, "to", 2) ? TO : 0;
    case 3: return same(n, "via", 3) ? VIA : 0;
    case 4: return same(n, "from", 4) ? FROM : same(n, "cseq", 4) ? CSEQ : 0;
    case 5: return same(n, "route", 5) ? ROUTE : 0;
    case 7: return same(n, "call-id", 7) ? CALL_ID : same(n, "contact", 7) ? CONTACT : 0;
    case 9: return same(n, "timestamp", 9) ? TIMESTAMP : 0;
    case 12: return same(n, "record-route", 12) ? RECORD_ROUTE : same(n, "max-forwards", 12) ? MAX_FORWARDS : 0;
    case 13: return same(n, "proxy-require", 13) ? PROXY_REQUIRE : 0;
    case 14: return same(n, "content-length", 14) ? CONTENT_LENGTH : 0;
    case 15: return same(n, "session-expires", 15) ? SESSION_EXPIRES : 0;
    }
    return 0;
}

/* `… <uri>` or `… <uri>;tag=token`, one pair of brackets, no quote behind them. The tag, empty if none. */
static int read_tag(span v, span *tag) {
    const char *open = memchr(v.p, '<', v.e - v.p);
    if (!open || memchr(open + 1, '<', v.e - open - 1)) return 0;
    const char *close = memchr(open, '>', v.e - open);
    if (!close || memchr(v.p, '>', open - v.p) || memchr(close + 1, '>', v.e - close - 1)) return 0;
    const char *q = memchr(v.p, '"', open - v.p);
    if (q) { /* "display" with nothing special inside, then blanks */
        const char *q2 = memchr(q + 1, '"', open - q - 1);
        if (q != v.p || !q2 || memchr(q2 + 1, '"', open - q2 - 1) || memchr(q, '\\', q2 - q)) return 0;
        for (const char *c = q2 + 1; c < open; c++) if (*c != ' ' && *c != '\t') return 0;
    }
    else
        for (const char *c = v.p; c < open; c++) if (*c == ',' || *c == ';') return 0;
    if (memchr(open, '"', v.e - open) || close == open + 1) return 0;
    for (const char *c = open + 1; c < close; c++) if ((unsigned char)*c <= ' ' || *c == 127) return 0;
    tag->p = tag->e = v.e;
    const char *c = close + 1;
    if (c == v.e) return 1;
    if (v.e - c <= 5 || memcmp(c, ";tag=", 5)) return 0;
    tag->p = c + 5;
    return is_token(*tag);
}

typedef struct { span transport, host, sent_by, branch, params, text; long port; int rport; } via_t;

static int read_via(span v, via_t *out) {
    if (v.e - v.p < 12 || memcmp(v.p, "SIP/2.0/", 8)) return 0;
    out->text = v;
    const char *c = v.p + 8;
    out->transport.p = c;
    while (c < v.e && *c >= 'A' && *c <= 'Z') c++;
    out->transport.e = c;
    if (c == out->transport.p || c >= v.e || *c != ' ') return 0;
    c++;
    out->host.p = out->sent_by.p = c;
    if (c < v.e && *c == '[') {
        for (c++; c < v.e && *c != ']'; c++)
            if (!((*c >= '0' && *c <= '9') || (*c >= 'a' && *c <= 'f') || *c == ':' || *c == '.')) return 0;
        if (c >= v.e || c == out->host.p + 1) return 0;
        c++;
    } else {
        while (c < v.e && host_char[(unsigned char)*c]) c++;
        if (c == out->host.p) return 0;
    }
    out->host.e = c;
    out->port = 0;
    if (c < v.e && *c == ':') {
        const char *d = ++c;
        while (c < v.e && *c >= '0' && *c <= '9' && c - d < 6) out->port = out->port * 10 + (*c++ - '0');
        /* a leading zero would be written differently in sent_by */
        if (c == d || *d == '0' || out->port > 65535) return 0;
    }
    out->sent_by.e = c;
    out->params.p = c;
    out->params.e = v.e;
    out->branch.p = out->branch.e = v.e;
    out->rport = 0;
    int branches = 0;
    while (c < v.e) {
        if (*c != ';') return 0;
        span name = {++c, c}, value;
        while (c < v.e && token_char[(unsigned char)*c]) c++;
        name.e = c;
        if (name.p == name.e) return 0;
        value.p = value.e = c;
        if (c < v.e && *c == '=') {
            value.p = ++c;
            while (c < v.e && (token_char[(unsigned char)*c] || *c == ':' || *c == '[' || *c == ']')) c++;
            value.e = c;
            if (value.p == value.e) return 0;
        }
        if (same(name, "branch", 6)) { if (branches++) return 0; out->branch = value; }
        else if (same(name, "rport", 5)) out->rport = 1;
    }
    return 1;
}

static PyObject *bytes_of(span s) { return PyBytes_FromStringAndSize(s.p, s.e - s.p); }

static int is_one_of(span name, PyObject *names) {
    for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(names); i++) {
        PyObject *one = PyTuple_GET_ITEM(names, i);
        if (same(name, PyBytes_AS_STRING(one), PyBytes_GET_SIZE(one))) return 1;
    }
    return 0;
}

static PyObject *scan(PyObject *self, PyObject *const *args, Py_ssize_t nargs) {
    (void)self;
    PyObject *data = nargs ? args[0] : NULL, *names = nargs > 1 ? args[1] : NULL;
    int fit = data && nargs <= 2 && PyBytes_Check(data) && (!names || PyTuple_Check(names));
    uint64_t lengths = 0; /* of the names, modulo 64: most headers have none of them, and are not looked at further */
    for (Py_ssize_t i = 0; fit && names && i < PyTuple_GET_SIZE(names); i++) {
        PyObject *one = PyTuple_GET_ITEM(names, i);
        if ((fit = PyBytes_Check(one))) lengths |= (uint64_t)1 << (PyBytes_GET_SIZE(one) & 63);
    }
    if (!fit) { PyErr_SetString(PyExc_TypeError, "scan takes bytes and a tuple of bytes"); return NULL; }
    const char *start = PyBytes_AS_STRING(data), *end = start + PyBytes_GET_SIZE(data), *p = start;
    span first = {0}, method = {0}, uri = {0}, value[SLOTS] = {{0}};
    int place[SLOTS] = {0}, code = 0, count = 0;
    unsigned repeated = 0;
    const char *body = NULL;
    PyObject *lines = NULL, *at = NULL, *again = NULL, *marked = NULL, *result = NULL;

    if (end - start < 16 || !token_char[(unsigned char)*start]) Py_RETURN_NONE;
    if (!(lines = PyList_New(0))) return NULL;
    while (p < end) {
        const char *lf = memchr(p, '\n', end - p);
        if (!lf || lf == start || lf[-1] != '\r') goto none;
        span line = {p, lf - 1};
        p = lf + 1;
        if (line.p == line.e) { body = p; break; }
        if (memchr(line.p, '\r', line.e - line.p)) goto none;
        PyObject *text = bytes_of(line);
        if (!text || PyList_Append(lines, text) < 0) { Py_XDECREF(text); goto fail; }
        Py_DECREF(text);
        if (!count++) { first = line; continue; }
        const char *colon = memchr(line.p, ':', line.e - line.p);
        if (!colon) goto none;
        span name = {line.p, colon};
        while (name.e > name.p && (name.e[-1] == ' ' || name.e[-1] == '\t')) name.e--;
        if (!is_token(name)) goto none; /* a continuation line begins with a blank: it ends here too */
        if (lengths >> ((name.e - name.p) & 63) & 1 && is_one_of(name, names)) {
            PyObject *where = PyLong_FromLong(count - 1);
            int bad = !where || (!marked && !(marked = PyList_New(0))) || PyList_Append(marked, where) < 0;
            Py_XDECREF(where);
            if (bad) goto fail;
        }
        int slot = slot_of(name);
        if (slot) {
            if (place[slot]) {
                if (slot == CALL_ID || slot == CSEQ || slot == FROM || slot == TO || slot == CONTENT_LENGTH
                    || slot == MAX_FORWARDS) goto none;
                repeated |= 1u << slot;
            } else {
                place[slot] = count - 1;
                value[slot] = trim((span){colon + 1, line.e});
            }
        }
    }
    if (!body || !place[VIA] || !place[CALL_ID] || !place[CSEQ] || !place[FROM] || !place[TO]) goto none;

    if (first.e - first.p > 11 && !memcmp(first.p, "SIP/2.0 ", 8)) {
        const char *c = first.p + 8;
        if (c[0] < '1' || c[0] > '6' || c[1] < '0' || c[1] > '9' || c[2] < '0' || c[2] > '9' || c[3] != ' ') goto none;
        code = (c[0] - '0') * 100 + (c[1] - '0') * 10 + (c[2] - '0');
        uri.p = uri.e = first.e;
    } else {
        const char *c = memchr(first.p, ' ', first.e - first.p);
        if (!c || first.e - c < 10 || memcmp(first.e - 8, " SIP/2.0" , 8)) goto none;
        method = (span){first.p, c};
        uri = (span){c + 1, first.e - 8};
        if (!is_token(method) || uri.p >= uri.e) goto none;
        for (c = uri.p; c < uri.e; c++) if (!uri_char[(unsigned char)*c]) goto none;
        if (same((span){method.p, method.p + (method.e - method.p < 4 ? 0 : 4)}, "sip/", 4)) goto none;
    }

    span number = value[CSEQ], verb, from_tag, to_tag;
    long long cseq = 0;
    const char *c = number.p;
    while (c < number.e && *c >= '0' && *c <= '9' && c - number.p < 11) cseq = cseq * 10 + (*c++ - '0');
    if (c == number.p || c - number.p > 10 || cseq >= (1LL << 31) || c >= number.e || *c != ' ') goto none;
    verb = trim((span){c, number.e});
    if (!is_token(verb)) goto none;
    if (code) method = verb;
    if (value[CALL_ID].p == value[CALL_ID].e) goto none;
    if (!read_tag(value[FROM], &from_tag) || !read_tag(value[TO], &to_tag)) goto none;
    via_t via;
    if (!read_via(value[VIA], &via)) goto none;
    for (c = via.host.p; c < via.host.e; c++) if (*c >= 'A' && *c <= 'Z') goto none; /* host is in lower case */

    span rest = {body, end};
    if (place[CONTENT_LENGTH]) {
        span digits = value[CONTENT_LENGTH];
        long long length = 0;
        if (digits.p >= digits.e || digits.e - digits.p > 9) goto none;
        for (c = digits.p; c < digits.e; c++) { if (*c < '0' || *c > '9') goto none; length = length * 10 + (*c - '0'); }
        if (length > end - body) goto none;
        rest.e = body + length;
    }

    if (!(at = PyDict_New())) goto fail;
    for (int slot = 1; slot < SLOTS; slot++) {
        if (!place[slot]) continue;
        PyObject *key = PyLong_FromLong(slot), *where = PyLong_FromLong(place[slot]);
        int bad = !key || !where || PyDict_SetItem(at, key, where) < 0;
        Py_XDECREF(key); Py_XDECREF(where);
        if (bad) goto fail;
    }
    if (repeated) {
        if (!(again = PySet_New(NULL))) goto fail;
        for (int slot = 1; slot < SLOTS; slot++) {
            if (!(repeated >> slot & 1)) continue;
            PyObject *key = PyLong_FromLong(slot);
            int bad = !key || PySet_Add(again, key) < 0;
            Py_XDECREF(key);
            if (bad) goto fail;
        }
    } else { Py_INCREF(Py_None); again = Py_None; }

    if (!marked && !(marked = PyTuple_New(0))) goto fail;
    PyObject *parts[] = {
        PyLong_FromLong(code), bytes_of(method), bytes_of(uri), lines, at, again, bytes_of(rest),
        bytes_of(value[CALL_ID]), bytes_of(from_tag), bytes_of(to_tag), PyLong_FromLongLong(cseq), bytes_of(verb),
        bytes_of(via.transport), bytes_of(via.host), bytes_of(via.sent_by), PyLong_FromLong(via.port),
        bytes_of(via.branch), PyBool_FromLong(via.rport), bytes_of(via.params), bytes_of(via.text),
        marked};
    int n = sizeof parts / sizeof *parts, missing = 0;
    lines = at = again = marked = NULL; /* owned by parts now */
    for (int i = 0; i < n; i++) missing |= !parts[i];
    if (!missing && (result = PyTuple_New(n))) {
        for (int i = 0; i < n; i++) PyTuple_SET_ITEM(result, i, parts[i]);
        return result;
    }
    for (int i = 0; i < n; i++) Py_XDECREF(parts[i]);
    return NULL;

none:
    Py_XDECREF(lines); Py_XDECREF(marked);
    Py_RETURN_NONE;
fail:
    Py_XDECREF(lines); Py_XDECREF(at); Py_XDECREF(again); Py_XDECREF(marked);
    return NULL;
}

static PyMethodDef methods[] = {
    {"scan", (PyCFunction)(void (*)(void))scan, METH_FASTCALL,
     "scan(bytes, names = ()) -> tuple | None: a plain SIP message, read in one pass."},
    {NULL, NULL, 0, NULL}};
static struct PyModuleDef module = {PyModuleDef_HEAD_INIT, "_scan", NULL, 0, methods, NULL, NULL, NULL, NULL};

PyMODINIT_FUNC PyInit__scan(void) {
    for (int c = 0; c < 256; c++) {
        int alnum = (c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z');
        token_char[c] = alnum || (c && strchr("-.!%*_+`'~", c) != NULL);
        host_char[c] = alnum || c == '-' || c == '.' || c == '_';
        uri_char[c] = c > ' ' && c != 127 && !strchr("<>\"?", c); /* with a ? it may have headers */
    }
    return PyModule_Create(&module);
}
