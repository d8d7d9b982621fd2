/* Spikes of IF and LIF neurons, as dynamics.py beside this has the equations: x[T][N] -> s[T][N].
 *
 * `before` and `after`: the potentials [N] before the first step and after the last; NULL for rest,
 * and for what nobody asks for.
 * The operations come in that order and are not contracted, so that the spikes are bit-equal. The
 * potentials of BLOCK neurons stay in the nearest cache over all T steps: each input is read once,
 * each spike written once. `scale` is tau, or 1 / tau if `product`; `soft` is the soft reset, for
 * which `rest` is 0.
 */
#define BLOCK 2048

enum { IF, DECAYED, NOT_DECAYED }; /* the last two: a LIF that decays its input, one that does not */

#define ABOVE (rest != 0.0f ? v[i] - rest : v[i])

#define STEPS(CHARGE)                                                     \
    for (long t = 0; t < T; t++) {                                        \
        const float *in = x + t * N + at;                                 \
        float *out = s + t * N + at;                                      \
        for (long i = 0; i < size; i++) {                                 \
            const float h = (CHARGE);                                     \
            const float fired = h >= threshold ? 1.0f : 0.0f;             \
            out[i] = fired;                                               \
            v[i] = soft ? h - fired * threshold : fired != 0.0f ? rest : h; \
        }                                                                 \
    }

static inline __attribute__((always_inline)) void block(
    const float *restrict x, float *restrict s, const float *restrict before,
    float *restrict after, const long T, const long N, const long at, const long size,
    const float threshold, const float rest, const float scale, const int charge,
    const int product, const int soft)
{
    float v[BLOCK];
    for (long i = 0; i < size; i++)
        v[i] = before ? before[at + i] : rest;
    if (charge == IF)
        STEPS(v[i] + in[i])
    else if (charge == DECAYED && product)
        STEPS(v[i] + (in[i] - ABOVE) * scale)
    else if (charge == DECAYED)
        STEPS(v[i] + (in[i] - ABOVE) / scale)
    else if (product)
        STEPS(v[i] - ABOVE * scale + in[i])
    else
        STEPS(v[i] - ABOVE / scale + in[i])
    if (after)
        for (long i = 0; i < size; i++)
            after[at + i] = v[i];
}

void spikes(const float *x, float *s, const float *before, float *after, const long T,
            const long N, const float threshold, const float rest, const float scale,
            const int charge, const int product, const int soft, const int threads)
{
    #pragma omp parallel for num_threads(threads) schedule(static) if (threads > 1)
    for (long at = 0; at < N; at += BLOCK) {
        const long size = N - at < BLOCK ? N - at : BLOCK;
        /* Written out, so that the compiler knows which reset it is and whether there is a rest. */
        if (soft)
            block(x, s, before, after, T, N, at, size, threshold, 0.0f, scale, charge, product, 1);
        else if (rest == 0.0f)
            block(x, s, before, after, T, N, at, size, threshold, 0.0f, scale, charge, product, 0);
        else
            block(x, s, before, after, T, N, at, size, threshold, rest, scale, charge, product, 0);
    }
}
