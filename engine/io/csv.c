/* csv.c: numbers from CSV files: RFC 4180's fields (quoted ones with doubled quotes and line ends
 * inside), lines ended by LF or CRLF, empty lines left out, a UTF-8 mark at the start ignored.
 *
 * The file is read whole and walked twice: the first walk counts rows and checks that all have the
 * same number of fields, the second reads the numbers. */
#include <ctype.h>
#include <errno.h>
#include <locale.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include "io/io.h"

typedef struct csv {
    const char *path;
    const char *at, *end;
    int64_t line, column; /* of the field last read, from 1 */
    int64_t next_line;
    char separator;
    bool row_ended; /* by the field last read */
} csv;

typedef struct field {
    const char *text; /* without the outer quotes */
    int64_t length;
    bool quoted;
} field;

static int bad_field(const csv *c, const char *what) {
    return fail(VESTIGE_EIO, "%s: line %lld, column %lld: %s", c->path, (long long)c->line,
                (long long)c->column, what);
}

static bool at_line_end(const csv *c) {
    return c->at == c->end || *c->at == '\n' ||
           (*c->at == '\r' && (c->at + 1 == c->end || c->at[1] == '\n'));
}

static void end_line(csv *c) {
    if (c->at < c->end && *c->at == '\r')
        c->at++;
    if (c->at < c->end && *c->at == '\n')
        c->at++;
    c->next_line++;
}

/* Goes to the start of the next row; false at the end of the file. */
static bool next_row(csv *c) {
    while (c->at < c->end && at_line_end(c))
        end_line(c);
    c->column = 0;
    return c->at < c->end;
}

static int quoted_field(csv *c, field *f) {
    *f = (field){ .text = ++c->at, .quoted = true };
    for (;; c->at++) {
        if (c->at == c->end)
            return bad_field(c, "a quoted field has no end");
        if (*c->at == '\n')
            c->next_line++;
        if (*c->at != '"')
            continue;
        if (c->at + 1 == c->end || c->at[1] != '"')
            break;
        c->at++;
    }
    f->length = c->at++ - f->text;
    if (!at_line_end(c) && *c->at != c->separator)
        return bad_field(c, "text after the closing quote");
    return VESTIGE_OK;
}

static int next_field(csv *c, field *f) {
    c->column++;
    c->line = c->next_line;
    if (c->at < c->end && *c->at == '"') {
        TRY(quoted_field(c, f));
    } else {
        *f = (field){ .text = c->at };
        while (!at_line_end(c) && *c->at != c->separator)
            c->at++;
        f->length = c->at - f->text;
    }
    c->row_ended = at_line_end(c);
    if (c->row_ended)
        end_line(c);
    else
        c->at++; /* the separator */
    return VESTIGE_OK;
}

/* A decimal number, nan, inf or infinity with spaces around. */
static bool to_number(const field *f, double *value, locale_t plain) {
    const char *p = f->text;
    int64_t n = f->length;
    while (n > 0 && (*p == ' ' || *p == '\t'))
        p++, n--;
    while (n > 0 && (p[n - 1] == ' ' || p[n - 1] == '\t'))
        n--;
    char text[512];
    if (n < 1 || n >= (int64_t)sizeof text)
        return false;
    memcpy(text, p, (size_t)n);
    text[n] = 0;
    const char *word = text + (text[0] == '-' || text[0] == '+');
    if (strspn(word, "0123456789+-.eE") != strlen(word) && strcasecmp(word, "nan") &&
        strcasecmp(word, "inf") && strcasecmp(word, "infinity"))
        return false;
    char *end;
    *value = strtod_l(text, &end, plain); /* strtod would follow the locale's decimal point */
    return end == text + n && end != text && (isfinite(*value) || isalpha((unsigned char)*word));
}

static int not_a_number(const csv *c, const field *f) {
    char text[72];
    size_t n = f->length < 68 ? (size_t)f->length : 68;
    memcpy(text, f->text, n);
    text[n] = 0;
    return fail(VESTIGE_EIO, "%s: line %lld, column %lld: expected a number, got '%s'", c->path,
                (long long)c->line, (long long)c->column, shown(text));
}

typedef struct table {
    int64_t rows, columns, name_bytes; /* rows without the header */
    bool header;
} table;

/* Whether the first row is the header: asked for, or none of its fields is a number. */
static int look_at_first(csv c, table *t, int header, locale_t plain) {
    field f;
    double v;
    int64_t numbers = 0;
    do {
        TRY(next_field(&c, &f));
        numbers += to_number(&f, &v, plain);
        t->name_bytes += f.length + 1; /* doubled quotes make it a little less */
        t->columns++;
        if (memchr(f.text, 0, (size_t)f.length))
            return bad_field(&c, "a zero byte");
    } while (!c.row_ended);
    t->header = header == 1 || (header < 0 && numbers == 0);
    return VESTIGE_OK;
}

static int measure(csv c, table *t, int header, locale_t plain) {
    if (!next_row(&c))
        return fail(VESTIGE_EIO, "%s: empty: expected rows of numbers", c.path);
    TRY(look_at_first(c, t, header, plain));
    do {
        field f;
        do
            TRY(next_field(&c, &f));
        while (!c.row_ended);
        if (c.column != t->columns)
            return fail(VESTIGE_EIO, "%s: line %lld: expected %lld columns, got %lld", c.path,
                        (long long)c.line, (long long)t->columns, (long long)c.column);
        t->rows++;
    } while (next_row(&c));
    t->rows -= t->header;
    if (t->rows == 0)
        return fail(VESTIGE_EIO, "%s: no rows after the header", c.path);
    return VESTIGE_OK;
}

static int read_names(csv *c, const table *t, T *names) {
    int64_t n = 0;
    void *scratch;
    TRY(alloc_scratch(&scratch, t->name_bytes));
    char *to = scratch;
    if (t->header) {
        next_row(c);
        field f;
        do {
            int status = next_field(c, &f);
            if (status < 0) {
                free_scratch(scratch, t->name_bytes);
                return status;
            }
            for (int64_t i = 0; i < f.length; i++) {
                to[n++] = f.text[i];
                if (f.quoted && f.text[i] == '"')
                    i++; /* the second of two */
            }
            to[n++] = 0;
        } while (!c->row_ended);
    }
    int status = tensor_new(names, VESTIGE_U8, VESTIGE_CPU, 1, &n);
    if (status >= 0)
        copy_in_at(*names, 0, to, n);
    free_scratch(scratch, t->name_bytes);
    return status;
}

static int read_numbers(csv *c, const table *t, T out, locale_t plain) {
    void *scratch;
    TRY(alloc_scratch(&scratch, t->columns * 8));
    double *row = scratch;
    int status = VESTIGE_OK;
    for (int64_t r = 0; r < t->rows && status >= 0; r++) {
        next_row(c);
        for (int64_t i = 0; i < t->columns && status >= 0; i++) {
            field f;
            status = next_field(c, &f);
            if (status >= 0 && !to_number(&f, &row[i], plain))
                status = not_a_number(c, &f);
        }
        if (status >= 0)
            copy_in_at(out, r * t->columns * 8, row, t->columns * 8);
    }
    free_scratch(scratch, t->columns * 8);
    return status;
}

static int read_table(vestige_tensor *out, vestige_tensor *names, csv c, int header,
                      locale_t plain) {
    table t = { 0 };
    TRY(measure(c, &t, header, plain));
    T x = NULL, n = NULL;
    int status = read_names(&c, &t, &n);
    if (status >= 0)
        status = tensor_new(&x, VESTIGE_F64, VESTIGE_CPU, 2, (int64_t[]){ t.rows, t.columns });
    if (status >= 0)
        status = read_numbers(&c, &t, x, plain);
    if (status < 0) {
        tensor_unref(x);
        tensor_unref(n);
        return status;
    }
    return hand_out_both(out, x, names, n);
}

int vestige_csv_read(vestige_tensor *out, vestige_tensor *names, const char *path, int header,
                     int separator) {
    clear_error();
    if (separator < 1 || separator > 126 || strchr("\"\r\n.+-", separator) || isalnum(separator))
        return fail(VESTIGE_EVALUE, "csv: separator: expected a character such as ',' or ';'");
    locale_t plain = newlocale(LC_ALL_MASK, "C", 0);
    if (!plain)
        return fail(VESTIGE_EMEMORY, "out of memory: reading %s", path);
    source s;
    void *text = NULL;
    int status = source_open(&s, path);
    if (status >= 0) {
        status = alloc_scratch(&text, s.size);
        if (status >= 0)
            status = source_read(&s, text, s.size, 0, "the rows");
        if (status >= 0) {
            csv c = { .path = path,
                      .at = text,
                      .end = (char *)text + s.size,
                      .next_line = 1,
                      .separator = (char)separator };
            if (s.size >= 3 && memcmp(text, "\xEF\xBB\xBF", 3) == 0)
                c.at += 3;
            status = read_table(out, names, c, header, plain);
        }
        if (text)
            free_scratch(text, s.size);
        source_close(&s);
    }
    freelocale(plain);
    return status;
}
