// Rotary embedding, the paged KV cache, and causal attention over it; see KvLayout for the layout.
#include "common.h"

enum { MAX_HEAD_DIM = 256 };

typedef struct {
    scalar *arena;
    int64_t page_elems, layer_offset;
    const int32_t *positions, *sequence, *block_tables;
    int64_t table_stride;
    int32_t num_tokens, num_q_heads, num_kv_heads, head_dim, block_tokens;
} Cache;

static scalar *kv_head(const Cache *cache, int token_sequence, int position, int which, int head) {
    int64_t page =
        cache->block_tables[token_sequence * cache->table_stride + position / cache->block_tokens];
    int64_t head_elems = (int64_t)cache->block_tokens * cache->head_dim;
    return cache->arena + page * cache->page_elems + cache->layer_offset +
           (which * cache->num_kv_heads + head) * head_elems;
}

DISPATCHED static void rotate(scalar *head, const float *angles, int half) {
    for (int i = 0; i < half; i++) {
        float first = load(head[i]), second = load(head[i + half]);
        head[i] = store(first * angles[i] - second * angles[i + half]);
        head[i + half] = store(second * angles[i] + first * angles[i + half]);
    }
}

EXPORT void rope_and_cache(const Cache *cache, scalar *qkv, int64_t qkv_stride,
                           const float *rotary) {
    int dim = cache->head_dim, block = cache->block_tokens;
#pragma omp parallel for if (cache->num_tokens >= 32)
    for (int token = 0; token < cache->num_tokens; token++) {
        int position = cache->positions[token], slot = position % block;
        scalar *heads = qkv + token * qkv_stride;
        for (int head = 0; head < cache->num_q_heads + cache->num_kv_heads; head++)
            rotate(heads + head * dim, rotary + (int64_t)position * dim, dim / 2);
        const scalar *keys = heads + cache->num_q_heads * dim;
        const scalar *values = keys + cache->num_kv_heads * dim;
        for (int head = 0; head < cache->num_kv_heads; head++) {
            scalar *k = kv_head(cache, cache->sequence[token], position, 0, head);
            scalar *v = kv_head(cache, cache->sequence[token], position, 1, head);
            for (int i = 0; i < dim; i++) k[i * block + slot] = keys[head * dim + i];
            memcpy(v + slot * dim, values + head * dim, dim * sizeof(scalar));
        }
    }
}

typedef struct {
    float max, sum;
    float mixed[MAX_HEAD_DIM];
} Softmax;  // online: `mixed` and `sum` are relative to `max`

// scores[lane] = query . key of that lane; four sums hide the latency of one.
INLINE void score(float *scores, const float *query, const scalar *k, int dim, int block) {
    vec sums[4] = {0}, key;
    int d = 0;
    for (; d + 4 <= dim; d += 4)
        for (int part = 0; part < 4; part++) {
            load_vec(&key, k + (int64_t)(d + part) * block);
            sums[part] += query[d + part] * key;
        }
    for (; d < dim; d++) {
        load_vec(&key, k + (int64_t)d * block);
        sums[0] += query[d] * key;
    }
    vec total = (sums[0] + sums[1]) + (sums[2] + sums[3]);
    memcpy(scores, &total, sizeof total);
}

// mixed = mixed * rescale + weights . values
INLINE void mix(float *mixed, float rescale, const float *weights, const scalar *v, int valid,
                int dim) {
    int d = 0;
    for (; d + LANES <= dim; d += LANES) {
        vec total = rescale * *(vec *)(mixed + d), value;
        for (int lane = 0; lane < valid; lane++) {
            load_vec(&value, v + lane * dim + d);
            total += weights[lane] * value;
        }
        *(vec *)(mixed + d) = total;
    }
    for (; d < dim; d++) {
        float total = rescale * mixed[d];
        for (int lane = 0; lane < valid; lane++) total += weights[lane] * load(v[lane * dim + d]);
        mixed[d] = total;
    }
}

// Adds LANES keys, of which `valid` count, to a query's running softmax.
DISPATCHED static void attend(Softmax *state, const float *query, const scalar *k, const scalar *v,
                              int valid, int dim, int block) {
    float weights[LANES];
    score(weights, query, k, dim, block);
    float max = state->max, sum = 0;
    for (int lane = valid; lane < LANES; lane++) weights[lane] = -1e30f;
    for (int lane = 0; lane < LANES; lane++) max = weights[lane] > max ? weights[lane] : max;
    for (int lane = 0; lane < LANES; lane++) weights[lane] = fast_exp(weights[lane] - max);
    for (int lane = 0; lane < valid; lane++) sum += weights[lane];
    float rescale = fast_exp(state->max - max);
    mix(state->mixed, rescale, weights, v, valid, dim);
    state->sum = state->sum * rescale + sum;
    state->max = max;
}

static void attend_token(const Cache *cache, scalar *out, const scalar *query, int token,
                         int kv, float scale) {
    int dim = cache->head_dim, length = cache->positions[token] + 1;
    int group = cache->num_q_heads / cache->num_kv_heads;
    for (int head = kv * group; head < (kv + 1) * group; head++) {
        Softmax state = {.max = -1e30f};
        float scaled[MAX_HEAD_DIM];
        for (int i = 0; i < dim; i++) scaled[i] = scale * load(query[head * dim + i]);
        for (int begin = 0; begin < length; begin += LANES) {
            int lane = begin % cache->block_tokens;
            int valid = length - begin < LANES ? length - begin : LANES;
            const scalar *k = kv_head(cache, cache->sequence[token], begin, 0, kv) + lane;
            const scalar *v = kv_head(cache, cache->sequence[token], begin, 1, kv) + lane * dim;
            attend(&state, scaled, k, v, valid, dim, cache->block_tokens);
        }
        for (int i = 0; i < dim; i++) out[head * dim + i] = store(state.mixed[i] / state.sum);
    }
}

EXPORT void attention(const Cache *cache, scalar *out, const scalar *queries,
                      int64_t query_stride, float scale, int32_t in_parallel) {
#pragma omp parallel for collapse(2) schedule(dynamic) if (in_parallel)
    for (int token = 0; token < cache->num_tokens; token++)
        for (int kv = 0; kv < cache->num_kv_heads; kv++)
            attend_token(cache, out + (int64_t)token * cache->num_q_heads * cache->head_dim,
                         queries + token * query_stride, token, kv, scale);
}
