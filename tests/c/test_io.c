/* test_io.c: readers and writers of files from C: damage at every byte, allocations that fail one
 * by one, disks that are full, files that change while they are open, and that nothing leaks. */
#include <fcntl.h>
#include <math.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <dirent.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zlib.h>
#include "io/io.h"
#include <cmocka.h> /* last: its macro fail() would take the engine's function apart */

static char folder[] = "/tmp/vestige-io-XXXXXX";

static const char *in_folder(const char *name) {
    static char path[4][128];
    static unsigned turn;
    char *p = path[turn++ % 4];
    snprintf(p, sizeof path[0], "%s/%s", folder, name);
    return p;
}

static const char *put_file(const char *name, const void *data, size_t bytes) {
    const char *path = in_folder(name);
    unlink(path); /* some file systems write a file to disk at once when it is truncated first */
    FILE *f = fopen(path, "wb");
    assert_non_null(f);
    assert_int_equal(fwrite(data, 1, bytes, f), bytes);
    fclose(f);
    return path;
}

static size_t get_file(const char *path, void *data, size_t room) {
    FILE *f = fopen(path, "rb");
    assert_non_null(f);
    size_t n = fread(data, 1, room, f);
    fclose(f);
    return n;
}

static int files_in(const char *path) {
    DIR *d = opendir(path);
    int n = 0;
    while (readdir(d))
        n++;
    closedir(d);
    return n;
}

static int64_t live(void) {
    vestige_memory_info info;
    vestige_memory(&info);
    return info.live;
}

static vestige_tensor make(int dtype, int ndim, const int64_t *dim) {
    static uint8_t data[4096];
    for (int i = 0; i < 4096; i++)
        data[i] = (uint8_t)(dtype == VESTIGE_BOOL ? i & 1 : i * 5);
    vestige_tensor t;
    int64_t n = 1;
    for (int i = 0; i < ndim; i++)
        n *= dim[i];
    assert_true(vestige_from_data(&t, dtype, VESTIGE_CPU, ndim, dim, data,
                                  n * vestige_dtype_size(dtype)) >= 0);
    return t;
}

/* Opens and reads everything; the status of the first thing that fails. */
static int read_all(const char *path, int layout) {
    vestige_safetensors *f;
    int status = vestige_safetensors_open(&f, path);
    if (status < 0)
        return status;
    for (int i = 0; i < vestige_safetensors_count(f) && status >= 0; i++) {
        vestige_entry e;
        vestige_tensor t;
        assert_int_equal(vestige_safetensors_entry(f, i, &e), VESTIGE_OK);
        status = vestige_safetensors_read(&t, f, i, e.ndim == 4 ? layout : VESTIGE_MEMORY);
        if (status >= 0)
            assert_int_equal(status = vestige_release(&t), VESTIGE_OK);
    }
    vestige_safetensors_close(f);
    return status;
}

static int write_some(const char *path) {
    static const char *const names[] = { "weight", "bias", "mask", "count" };
    static const char *const keys[] = { "k", "l" }, *const values[] = { "v", "" };
    static const int32_t layout[] = { VESTIGE_NCHW, VESTIGE_MEMORY, VESTIGE_MEMORY,
                                      VESTIGE_MEMORY };
    vestige_tensor t[] = { make(VESTIGE_F32, 4, (int64_t[]){ 2, 3, 2, 5 }),
                           make(VESTIGE_F64, 1, (int64_t[]){ 3 }),
                           make(VESTIGE_BOOL, 2, (int64_t[]){ 1, 3 }), make(VESTIGE_I64, 0, NULL) };
    const vestige_tensor *p[] = { &t[0], &t[1], &t[2], &t[3] };
    int status = vestige_safetensors_write(path, 4, names, p, layout, 2, keys, values);
    for (int i = 0; i < 4; i++)
        assert_int_equal(vestige_release(&t[i]), VESTIGE_OK);
    return status;
}

/* ---- safetensors ---- */
static void every_truncation(void **state) {
    (void)state;
    const char *path = in_folder("a.safetensors");
    assert_int_equal(write_some(path), VESTIGE_OK);
    char data[2048];
    size_t n = get_file(path, data, sizeof data);
    assert_int_equal(read_all(path, VESTIGE_NCHW), VESTIGE_OK);
    int64_t before = live();
    for (size_t cut = 0; cut < n; cut++) {
        const char *p = put_file("cut", data, cut);
        assert_int_equal(read_all(p, VESTIGE_MEMORY), VESTIGE_EIO);
        assert_non_null(strstr(vestige_message(), p));
    }
    for (size_t at = 0; at < n; at++) /* whatever a byte becomes, it ends well */
        for (int v = 0; v < 256; v += at < 8 ? 1 : 15) {
            char kept = data[at];
            data[at] = (char)v;
            read_all(put_file("changed", data, n), VESTIGE_NCHW);
            data[at] = kept;
        }
    assert_int_equal(live(), before);
}

static void headers(void **state) {
    (void)state;
    static const struct {
        const char *header;
        int data;
        const char *message;
    } cases[] = {
        { "{}", 0, NULL },
        { "{}      ", 0, NULL },
        { "{\"a\":{\"dtype\":\"U8\",\"shape\":[],\"data_offsets\":[0,1]}}", 1, NULL },
        { "{\"a\":{\"dtype\":\"U8\",\"shape\":[0,7],\"data_offsets\":[0,0]},"
          "\"b\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1]}}",
          1, NULL },
        { "{}", 1, "no entry has the last 1 bytes" },
        { "{}x", 0, "header: " },
        { " \n{\"a\":{}}", 0, "entry 'a': dtype is missing" },
        { "{\"a\":{\"dtype\":\"U8\",\"data_offsets\":[0,0]}}", 0, "entry 'a': shape is missing" },
        { "{\"a\":{\"dtype\":7}}", 0, "dtype: expected a string" },
        { "{\"a\":{\"shape\":7}}", 0, "shape: expected a list" },
        { "{\"a\":{\"shape\":[\"1\"]}}", 0, "shape: dimension 1 is not a whole number" },
        { "{\"a\":{\"data_offsets\":[0]}}", 0, "data_offsets: expected two whole numbers" },
        { "{\"a\":{\"data_offsets\":[0,0,0]}}", 0, "data_offsets: expected two whole numbers" },
        { "{\"a\":{\"data_offsets\":[-1,0]}}", 0, "data_offsets: -1 to 0 is outside" },
        { "{\"a\":{\"data_offsets\":[1,0]}}", 1, "data_offsets: 1 to 0 is outside" },
        { "{\"a\":{\"data_offsets\":[0,9223372036854775807]}}", 1, "is outside the file's data" },
        { "{\"a\":{\"data_offsets\":[0,1e3]}}", 0, "data_offsets: expected two whole numbers" },
        { "{\"a\":{\"dtype\":\"U8\",\"shape\":[2],\"data_offsets\":[0,2]},"
          "\"b\":{\"dtype\":\"U8\",\"shape\":[2],\"data_offsets\":[1,3]}}",
          3, "entry 'b': data_offsets: overlaps entry 'a', which ends at 2" },
        { "{\"a\":{\"dtype\":\"U8\",\"shape\":[2],\"data_offsets\":[0,2]},"
          "\"b\":{\"dtype\":\"U8\",\"shape\":[2],\"data_offsets\":[0,2]}}",
          2, "overlaps entry" },
        { "{\"a\":{\"dtype\":\"F64\",\"shape\":[9007199254740993,1024],\"data_offsets\":[0,0]}}", 0,
          "shape: (9007199254740993,1024) is too large" },
    };
    for (int i = 0; i < COUNT(cases); i++) {
        char file[1024] = { 0 };
        size_t n = strlen(cases[i].header);
        file[0] = (char)n;
        file[1] = (char)(n >> 8);
        memcpy(file + 8, cases[i].header, n);
        int status = read_all(put_file("h", file, 8 + n + (size_t)cases[i].data), VESTIGE_MEMORY);
        if (!cases[i].message) {
            assert_int_equal(status, VESTIGE_OK);
            continue;
        }
        assert_int_equal(status, VESTIGE_EIO);
        if (!strstr(vestige_message(), cases[i].message))
            fail_msg("expected '%s' in '%s'", cases[i].message, vestige_message());
    }
}

static void deep_json(void **state) {
    (void)state;
    enum { DEPTH = 1000000 };
    char *file = calloc(1, DEPTH + 8);
    for (int i = 0; i < 8; i++)
        file[i] = (char)((int64_t)DEPTH >> 8 * i);
    memset(file + 8, '[', DEPTH);
    assert_int_equal(read_all(put_file("deep", file, DEPTH + 8), VESTIGE_MEMORY), VESTIGE_EIO);
    free(file);
}

static void file_changes_while_open(void **state) {
    (void)state;
    const char *path = in_folder("shrinks");
    assert_int_equal(write_some(path), VESTIGE_OK);
    vestige_safetensors *f;
    assert_int_equal(vestige_safetensors_open(&f, path), VESTIGE_OK);
    assert_int_equal(truncate(path, 300), 0);
    vestige_tensor t;
    int status = VESTIGE_OK;
    for (int i = 0; i < vestige_safetensors_count(f); i++) {
        int s = vestige_safetensors_read(&t, f, i, VESTIGE_MEMORY);
        if (s >= 0)
            vestige_release(&t);
        else
            status = s;
    }
    assert_int_equal(status, VESTIGE_EIO);
    vestige_safetensors_close(f);
    vestige_safetensors_close(NULL);
}

static void past_the_end(void **state) {
    (void)state;
    const char *path = in_folder("a.safetensors");
    vestige_safetensors *f;
    assert_int_equal(vestige_safetensors_open(&f, path), VESTIGE_OK);
    vestige_entry e;
    vestige_tensor t;
    const char *key, *value;
    assert_int_equal(vestige_safetensors_entry(f, 4, &e), VESTIGE_EVALUE);
    assert_int_equal(vestige_safetensors_entry(f, -1, &e), VESTIGE_EVALUE);
    assert_int_equal(vestige_safetensors_read(&t, f, 4, VESTIGE_MEMORY), VESTIGE_EVALUE);
    assert_int_equal(vestige_safetensors_read(&t, f, 0, VESTIGE_NCHW), VESTIGE_EIO);
    assert_int_equal(vestige_safetensors_metadata(f, 1, &key, &value), VESTIGE_OK);
    assert_string_equal(key, "l");
    assert_string_equal(value, "");
    assert_int_equal(vestige_safetensors_metadata(f, 2, &key, &value), VESTIGE_EVALUE);
    vestige_safetensors_close(f);
}

/* ---- Writing ---- */
static void full_disk(void **state) {
    (void)state;
    const char *path = in_folder("full.safetensors");
    assert_int_equal(write_some(path), VESTIGE_OK);
    char before[2048], after[2048];
    size_t n = get_file(path, before, sizeof before);
    int files = files_in(folder);
    signal(SIGXFSZ, SIG_IGN);
    struct rlimit old, small;
    getrlimit(RLIMIT_FSIZE, &old);
    for (size_t limit = 0; limit < n; limit += 40) {
        small = (struct rlimit){ limit, old.rlim_max };
        setrlimit(RLIMIT_FSIZE, &small);
        int status = write_some(path);
        setrlimit(RLIMIT_FSIZE, &old);
        assert_int_equal(status, VESTIGE_EIO);
        assert_non_null(strstr(vestige_message(), "full.safetensors: cannot write: "));
        assert_int_equal(get_file(path, after, sizeof after), n);
        assert_memory_equal(before, after, n);
        assert_int_equal(files_in(folder), files);
    }
}

static void unwritable_folder(void **state) {
    (void)state;
    const char *path = in_folder("closed");
    assert_int_equal(mkdir(path, 0500), 0);
    bool root = geteuid() == 0; /* root may write anywhere */
    if (root)
        assert_int_equal(seteuid(65534), 0);
    assert_int_equal(write_some(in_folder("closed/a")), VESTIGE_EIO);
    if (root)
        assert_int_equal(seteuid(0), 0);
    assert_non_null(strstr(vestige_message(), "Permission denied"));
}

/* ---- Allocations that fail ---- */
static const char *cifar_path, *idx_path, *csv_path, *png_path;

static int read_everything(int what) {
    vestige_tensor a = { 0 }, b = { 0 };
    const char *const one[] = { cifar_path, cifar_path }, *const two[] = { png_path, png_path };
    int status = VESTIGE_OK;
    switch (what) {
    case 0:
        return read_all(in_folder("a.safetensors"), VESTIGE_NCHW);
    case 1:
        status = vestige_cifar_read(&a, &b, 2, one);
        break;
    case 2:
        status = vestige_idx_read(&a, idx_path);
        break;
    case 3:
        status = vestige_csv_read(&a, &b, csv_path, -1, ',');
        break;
    case 4:
        status = vestige_image_read(&a, png_path, 0);
        break;
    default:
        status = vestige_image_read_all(&a, 2, two, 0, 2);
    }
    if (status >= 0) {
        vestige_release(&a);
        if (b._p)
            vestige_release(&b);
    }
    return status;
}

static int write_everything(const vestige_tensor *t, int what) {
    static const char *const names[] = { "t" };
    vestige_tensor bytes;
    if (what == 0)
        return vestige_safetensors_write(in_folder("w"), 1, names, &t, NULL, 0, NULL, NULL);
    if (what == 1)
        return vestige_image_write(in_folder("w.png"), t);
    int status = vestige_image_encode(&bytes, t);
    if (status >= 0)
        vestige_release(&bytes);
    return status;
}

static void make_files(void) {
    static char path[4][128];
    uint8_t record[2 * 3073] = { 0 };
    strcpy(path[0], put_file("c.bin", record, sizeof record));
    strcpy(path[1], put_file("i.idx", "\0\0\x0B\2\0\0\0\2\0\0\0\1\1\2\xFF\xFE", 16));
    strcpy(path[2], put_file("t.csv", "a,b\n1,2\n3,4", 11));
    vestige_tensor t = make(VESTIGE_U8, 3, (int64_t[]){ 3, 4, 3 });
    strcpy(path[3], in_folder("p.png"));
    assert_int_equal(vestige_image_write(path[3], &t), VESTIGE_OK);
    vestige_release(&t);
    cifar_path = path[0];
    idx_path = path[1];
    csv_path = path[2];
    png_path = path[3];
}

static void nth_allocation(void **state) {
    (void)state;
    make_files();
    for (int what = 0; what < 6; what++) {
        assert_true(read_everything(what) >= 0);
        int64_t before = live();
        int n = 1, status;
        do {
            vestige_fail_allocation(n);
            status = read_everything(what);
            vestige_fail_allocation(0);
            if (status < 0)
                assert_int_equal(status, VESTIGE_EMEMORY);
            assert_int_equal(live(), before);
        } while (n++ < 100 && status < 0);
        assert_true(n > 2 && status >= 0);
    }
    vestige_tensor t = make(VESTIGE_F32, 2, (int64_t[]){ 4, 4 });
    int files = files_in(folder) + 2;
    for (int what = 0; what < 3; what++) {
        int64_t before = live();
        int n = 1, status;
        do {
            vestige_fail_allocation(n);
            status = write_everything(&t, what);
            vestige_fail_allocation(0);
            assert_int_equal(live(), before);
        } while (n++ < 100 && status == VESTIGE_EMEMORY);
        assert_true(n > 2);
        assert_true(status >= 0 || status == VESTIGE_EVALUE); /* the floats hold a NaN */
    }
    vestige_release(&t);
    assert_true(files_in(folder) <= files);
}

static void interrupts(void **state) {
    (void)state;
    int64_t before = live();
    vestige_interrupt();
    assert_int_equal(read_everything(0), VESTIGE_EINTERRUPTED);
    assert_int_equal(read_everything(2), VESTIGE_EINTERRUPTED);
    assert_int_equal(read_everything(5), VESTIGE_EINTERRUPTED);
    assert_int_equal(write_some(in_folder("kept")), VESTIGE_OK); /* a checkpoint is still written */
    vestige_clear_interrupt();
    assert_int_equal(live(), before);
}

static void no_regular_files(void **state) {
    (void)state;
    const char *fifo = in_folder("fifo");
    assert_int_equal(mkfifo(fifo, 0600), 0);
    vestige_tensor t, u;
    assert_int_equal(vestige_idx_read(&t, fifo), VESTIGE_EIO); /* and does not wait */
    assert_int_equal(vestige_csv_read(&t, &u, fifo, -1, ','), VESTIGE_EIO);
    assert_int_equal(vestige_image_read(&t, fifo, 0), VESTIGE_EIO);
    assert_int_equal(read_all(fifo, 0), VESTIGE_EIO);
    assert_int_equal(vestige_cifar_read(&t, &u, 1, &fifo), VESTIGE_EIO);
    assert_non_null(strstr(vestige_message(), "not a regular file"));
}

/* gzip makes little of much: the size that a header claims is not believed. */
static void packed_size(void **state) {
    (void)state;
    const char *path = in_folder("z.idx.gz");
    gzFile f = gzopen(path, "wb");
    gzwrite(f, "\0\0\x08\2\x7F\xFF\xFF\xFF\0\1\0\0", 12);
    gzclose(f);
    vestige_tensor t;
    assert_int_equal(vestige_idx_read(&t, path), VESTIGE_EIO);
    assert_non_null(strstr(vestige_message(), "gzipped bytes can hold"));
    f = gzopen(path, "wb");
    gzwrite(f, "\0\0\x08\1\0\0\0\2abc", 11);
    gzclose(f);
    assert_int_equal(vestige_idx_read(&t, path), VESTIGE_EIO);
    assert_non_null(strstr(vestige_message(), "more elements follow than (2) has"));
}

static size_t put_chunk(uint8_t *to, const char *type, const void *data, size_t bytes) {
    for (int i = 0; i < 4; i++)
        to[i] = (uint8_t)(bytes >> (24 - 8 * i));
    memcpy(to + 4, type, 4);
    memcpy(to + 8, data, bytes);
    uint32_t sum = (uint32_t)crc32(0, to + 4, (uInt)bytes + 4);
    for (int i = 0; i < 4; i++)
        to[8 + bytes + (size_t)i] = (uint8_t)(sum >> (24 - 8 * i));
    return bytes + 12;
}

/* An image of one pixel whose data unpack to much more gets no memory for them. */
static void packed_image(void **state) {
    (void)state;
    uLongf n = 1 << 18;
    uint8_t *much = calloc(1, 64 << 20), *little = malloc(n), *file = malloc(n + 100);
    assert_int_equal(compress(little, &n, much, 64 << 20), Z_OK);
    memcpy(file, "\x89PNG\r\n\x1A\n", 8);
    size_t at = 8;
    at += put_chunk(file + at, "IHDR", "\0\0\0\1\0\0\0\1\x08\0\0\0\0", 13);
    at += put_chunk(file + at, "IDAT", little, n);
    at += put_chunk(file + at, "IEND", "", 0);
    vestige_tensor t;
    assert_int_equal(vestige_image_decode(&t, file, (int64_t)at, 0), VESTIGE_EIO);
    assert_string_equal(vestige_message(), "image: Out of memory");
    free(much);
    free(little);
    free(file);
}

/* ---- Layout ---- */
static void halves(void **state) {
    (void)state;
    for (int i = 0; i < 65536; i++) {
        uint16_t bits = (uint16_t)i;
        float got;
        half_to_float(&got, &bits, 1);
        int exponent = bits >> 10 & 31, fraction = bits & 1023;
        float want = exponent == 31  ? (fraction ? NAN : INFINITY)
                     : exponent == 0 ? ldexpf((float)fraction, -24)
                                     : ldexpf((float)(fraction + 1024), exponent - 25);
        want = copysignf(want, bits >> 15 ? -1.0f : 1.0f);
        assert_true(isnan(want) ? isnan(got) : got == want);
        assert_int_equal(signbit(got) != 0, bits >> 15);
    }
}

static void transposes(void **state) {
    (void)state;
    enum { N = 2, ROWS = 19, COLUMNS = 37 };
    for (int size = 1; size <= 8; size *= 2) {
        static uint8_t a[N * ROWS * COLUMNS * 8], b[sizeof a];
        for (size_t i = 0; i < sizeof a; i++)
            a[i] = (uint8_t)(i * 31 + i / 251);
        transpose_all(b, a, N, ROWS, COLUMNS, size);
        for (int i = 0; i < N; i++)
            for (int r = 0; r < ROWS; r++)
                for (int c = 0; c < COLUMNS; c++)
                    assert_memory_equal(b + ((i * COLUMNS + c) * ROWS + r) * size,
                                        a + ((i * ROWS + r) * COLUMNS + c) * size, size);
    }
}

static void names_in_messages(void **state) {
    (void)state;
    char text[80];
    memset(text, 'a', sizeof text);
    text[63] = (char)0xC3; /* a character of two bytes across the cut */
    text[64] = (char)0xA9;
    text[79] = 0;
    const char *cut = shown(text);
    assert_int_equal(strlen(cut), 66);
    assert_string_equal(cut + 63, "...");
    assert_string_equal(shown("a\x1b[31m\n"), "a?[31m?");
}

static int open_folder(void **state) {
    (void)state;
    return mkdtemp(folder) ? 0 : -1;
}

static int drop_folder(void **state) {
    (void)state;
    char command[160];
    snprintf(command, sizeof command, "rm -rf '%s'", folder);
    return system(command);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_truncation),
        cmocka_unit_test(headers),
        cmocka_unit_test(deep_json),
        cmocka_unit_test(file_changes_while_open),
        cmocka_unit_test(past_the_end),
        cmocka_unit_test(full_disk),
        cmocka_unit_test(unwritable_folder),
        cmocka_unit_test(nth_allocation),
        cmocka_unit_test(interrupts),
        cmocka_unit_test(no_regular_files),
        cmocka_unit_test(packed_size),
        cmocka_unit_test(packed_image),
        cmocka_unit_test(halves),
        cmocka_unit_test(transposes),
        cmocka_unit_test(names_in_messages),
    };
    return cmocka_run_group_tests(tests, open_folder, drop_folder);
}
