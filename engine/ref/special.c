/* The definition of the functions of probability. */
#include "ref/ref.h"

#define UNARY(name, value)                                                                         \
    ALWAYS_INLINE int name(const call *c, int t) {                                                 \
        T y = c->out[0];                                                                           \
        for (int64_t i = 0; i < y->numel; i++) {                                                   \
            double x = get(c->in[0]->data, t, i);                                                  \
            put(y->data, t, i, value);                                                             \
        }                                                                                          \
        return VESTIGE_OK;                                                                         \
    }                                                                                              \
    REF_FLOAT(name)

static double horner(const double *k, double x) {
    double y = 0;
    for (int i = 7; i >= 0; i--)
        y = y * x + k[i];
    return y;
}

/* The quantile of N(0,1) at 1/2 + q, where tail is the smaller of the two sides' probabilities:
 * given apart, each keeps its digits. M. J. Wichura, algorithm AS 241 (1988), about 1e-16. */
static double quantile(double q, double tail) {
    static const double a[] = { 3.3871328727963666080e0, 1.3314166789178437745e2,
                                1.9715909503065514427e3, 1.3731693765509461125e4,
                                4.5921953931549871457e4, 6.7265770927008700853e4,
                                3.3430575583588128105e4, 2.5090809287301226727e3 };
    static const double b[] = { 1.0,
                                4.2313330701600911252e1,
                                6.8718700749205790830e2,
                                5.3941960214247511077e3,
                                2.1213794301586595867e4,
                                3.9307895800092710610e4,
                                2.8729085735721942674e4,
                                5.2264952788528545610e3 };
    static const double c[] = { 1.42343711074968357734e0,  4.63033784615654529590e0,
                                5.76949722146069140550e0,  3.64784832476320460504e0,
                                1.27045825245236838258e0,  2.41780725177450611770e-1,
                                2.27238449892691845833e-2, 7.74545014278341407640e-4 };
    static const double d[] = { 1.0,
                                2.05319162663775882187e0,
                                1.67638483018380384940e0,
                                6.89767334985100004550e-1,
                                1.48103976427480074590e-1,
                                1.51986665636164571966e-2,
                                5.47593808499534494600e-4,
                                1.05075007164441684324e-9 };
    static const double e[] = { 6.65790464350110377720e0,  5.46378491116411436990e0,
                                1.78482653991729133580e0,  2.96560571828504891230e-1,
                                2.65321895265761230930e-2, 1.24266094738807843860e-3,
                                2.71155556874348757815e-5, 2.01033439929228813265e-7 };
    static const double f[] = { 1.0,
                                5.99832206555887937690e-1,
                                1.36929880922735805310e-1,
                                1.48753612908506148525e-2,
                                7.86869131145613259100e-4,
                                1.84631831751005468180e-5,
                                1.42151175831644588870e-7,
                                2.04426310338993978564e-15 };
    if (!(tail >= 0))
        return NAN;
    if (fabs(q) <= 0.425) {
        double r = 0.180625 - q * q;
        return q * horner(a, r) / horner(b, r);
    }
    if (tail == 0)
        return q < 0 ? -INFINITY : INFINITY;
    double r = sqrt(-log(tail));
    double x =
        r <= 5 ? horner(c, r - 1.6) / horner(d, r - 1.6) : horner(e, r - 5) / horner(f, r - 5);
    return q < 0 ? -x : x;
}

static double quantile_of(double p) {
    return quantile(p - 0.5, p < 0.5 ? p : 1 - p);
}
static double inverse_erf(double x) {
    return quantile(0.5 * x, 0.5 * (1 - fabs(x))) * M_SQRT1_2;
}
static double log_gamma(double x) {
    int sign; /* lgamma itself writes a global */
    return lgamma_r(x, &sign);
}

UNARY(error, erf(x))
UNARY(error_complement, erfc(x))
UNARY(error_inverse, inverse_erf(x))
UNARY(normal, 0.5 * erfc(-x * M_SQRT1_2))
UNARY(normal_inverse, quantile_of(x))
UNARY(gamma_logarithm, log_gamma(x))

const kernel_row ref_special[] = {
    ROWS_FLOAT("erf", error),
    ROWS_FLOAT("erfc", error_complement),
    ROWS_FLOAT("erfinv", error_inverse),
    ROWS_FLOAT("ndtr", normal),
    ROWS_FLOAT("ndtri", normal_inverse),
    ROWS_FLOAT("lgamma", gamma_logarithm),
    { 0 },
};
