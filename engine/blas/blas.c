/* blas.c: finding, opening and checking OpenBLAS.
 *
 * It is opened by soname at the first product in f64, so start-up does not pay for it. One product
 * in each of the four transposes is compared with plain loops: a library that is missing, lacks a
 * function or answers wrongly is not used, the plain loops run, and blas_text() says why.
 * VESTIGE_BLAS names another library.
 *
 * The flavour without threads gives its work space out without a lock, so two callers at once get
 * the same one: it is called from one thread. The others are told to run each call on the caller's
 * thread, and may be called from all.
 *
 * OpenBLAS chooses its kernels by the processor, and 0.3.21 takes processors that it does not know
 * for ones of twenty years ago, unless OPENBLAS_CORETYPE says otherwise: where the user did not set
 * it, the nearest type that the instruction sets allow is set while the library is opened. */
#include <dlfcn.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include "blas/blas.h"

/* Fortran's names and integers; matrices lie by columns, so a row-major one is transposed. */
typedef void (*dgemm_fn)(const char *ta, const char *tb, const int *m, const int *n, const int *k,
                         const double *alpha, const double *a, const int *lda, const double *b,
                         const int *ldb, const double *beta, double *c, const int *ldc);
typedef void (*dgetrf_fn)(const int *m, const int *n, double *a, const int *lda, int *pivot,
                          int *info);
typedef void (*dgetrs_fn)(const char *trans, const int *n, const int *nrhs, const double *a,
                          const int *lda, const int *pivot, double *b, const int *ldb, int *info);
typedef void (*dpotrf_fn)(const char *uplo, const int *n, double *a, const int *lda, int *info);

static struct {
    enum { UNOPENED, READY, ABSENT } state;
    dgemm_fn dgemm;
    dgetrf_fn dgetrf;
    dgetrs_fn dgetrs;
    dpotrf_fn dpotrf;
    bool reentrant;
    char text[256];
} blas;

static const char *library(void) {
    const char *asked = getenv("VESTIGE_BLAS");
    return asked && *asked ? asked : "libopenblas.so.0";
}

static const char *core_type(void) {
    __builtin_cpu_init();
    if (__builtin_cpu_supports("x86-64-v4"))
        return "SKYLAKEX";
    if (__builtin_cpu_supports("x86-64-v3"))
        return __builtin_cpu_is("amd") ? "ZEN" : "HASWELL";
    return NULL;
}

static void *open_library(void) {
    const char *core = getenv("OPENBLAS_CORETYPE") ? NULL : core_type();
    if (core)
        setenv("OPENBLAS_CORETYPE", core, 1);
    void *lib = dlopen(library(), RTLD_NOW | RTLD_LOCAL);
    if (core)
        unsetenv("OPENBLAS_CORETYPE");
    return lib;
}

/* ---- The check: (M,K) times (K,N), sizes that fill no tile ---- */
enum { M = 37, N = 29, K = 41 };

static double element(int i) {
    return (double)((i * 37 + 11) % 101) / 64 - 0.75;
}

static bool product_is_right(bool ta, bool tb) {
    double a[M * K], b[K * N], c[M * N];
    for (int i = 0; i < M * K; i++)
        a[i] = element(i);
    for (int i = 0; i < K * N; i++)
        b[i] = element(i + 7);
    for (int i = 0; i < M * N; i++)
        c[i] = NAN;
    blas_dgemm(c, a, b,
               &(blas_product){ .m = M,
                                .n = N,
                                .k = K,
                                .lda = ta ? M : K,
                                .ldb = tb ? K : N,
                                .ldc = N,
                                .ta = ta,
                                .tb = tb });
    for (int i = 0; i < M; i++)
        for (int j = 0; j < N; j++) {
            double sum = 0;
            for (int k = 0; k < K; k++)
                sum += a[ta ? k * M + i : i * K + k] * b[tb ? j * K + k : k * N + j];
            if (!(fabs(sum - c[i * N + j]) < 1e-12))
                return false;
        }
    return true;
}

static bool is_right(void) {
    for (int t = 0; t < 4; t++)
        if (!product_is_right(t & 1, t & 2))
            return false;
    return true;
}

/* Answers what to use, and writes blas.text. */
static int open_and_check(void) {
    void *lib = open_library();
    if (!lib) {
        const char *why = dlerror();
        snprintf(blas.text, sizeof blas.text, "none, plain loops run in f64: %s",
                 why ? why : library());
        return ABSENT;
    }
    blas.dgemm = (dgemm_fn)dlsym(lib, "dgemm_");
    blas.dgetrf = (dgetrf_fn)dlsym(lib, "dgetrf_");
    blas.dgetrs = (dgetrs_fn)dlsym(lib, "dgetrs_");
    blas.dpotrf = (dpotrf_fn)dlsym(lib, "dpotrf_");
    if (!blas.dgemm || !blas.dgetrf || !blas.dgetrs || !blas.dpotrf) {
        snprintf(blas.text, sizeof blas.text,
                 "none, plain loops run in f64: %s lacks a function of BLAS or LAPACK", library());
        return ABSENT;
    }
    void (*set_threads)(int) = (void (*)(int))dlsym(lib, "openblas_set_num_threads");
    if (set_threads)
        set_threads(1);
    if (!is_right()) {
        snprintf(blas.text, sizeof blas.text,
                 "none, plain loops run in f64: %s gives wrong products here", library());
        return ABSENT;
    }
    const char *(*get_config)(void) = (const char *(*)(void))dlsym(lib, "openblas_get_config");
    const char *config = get_config ? get_config() : "unknown";
    blas.reentrant = set_threads && get_config && !strstr(config, "SINGLE_THREADED");
    snprintf(blas.text, sizeof blas.text, "%s (%s)", library(), config);
    return READY;
}

bool blas_ready(void) {
    if (UNLIKELY(blas.state == UNOPENED))
        blas.state = open_and_check();
    return blas.state == READY;
}

int blas_threads(void) {
    return blas.reentrant ? threads() : 1;
}

const char *blas_text(void) {
    if (blas.state == UNOPENED)
        snprintf(blas.text, sizeof blas.text, "%s, opened at the first use of f64", library());
    return blas.text;
}

/* ---- Calls. The sizes of tiles and matrices that reach here fit an int: see rows.c. ---- */
void blas_dgemm(double *c, const double *a, const double *b, const blas_product *p) {
    int m = (int)p->m, n = (int)p->n, k = (int)p->k;
    int lda = (int)p->lda, ldb = (int)p->ldb, ldc = (int)p->ldc;
    double one = 1, beta = p->add;
    if (m == 0 || n == 0 || (k == 0 && p->add))
        return;
    lda += lda == 0;
    ldb += ldb == 0;
    blas.dgemm(p->tb ? "T" : "N", p->ta ? "T" : "N", &n, &m, &k, &one, b, &ldb, a, &lda, &beta, c,
               &ldc);
}

bool blas_solve(double *x, double *a, int32_t *pivot, int64_t n64, int64_t k64, bool ta) {
    int n = (int)n64, k = (int)k64, info = 0;
    if (n == 0)
        return true;
    blas.dgetrf(&n, &n, a, &n, pivot, &info);
    if (info != 0)
        return false;
    if (k > 0)
        blas.dgetrs(ta ? "N" : "T", &n, &k, a, &n, pivot, x, &n, &info);
    return true;
}

bool blas_cholesky(double *a, int64_t n64, bool upper) {
    int n = (int)n64, info = 0;
    if (n == 0)
        return true;
    blas.dpotrf(upper ? "L" : "U", &n, a, &n, &info);
    return info == 0;
}
