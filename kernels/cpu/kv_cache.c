// The norm of each head, rotary embedding, and writing keys and values to their pages.
#include "kv_cache.h"

DISPATCHED static void norm_head(scalar *head, const scalar *weight, int dim, float epsilon) {
    float squares = 0;
    for (int i = 0; i < dim; i++) squares += load(head[i]) * load(head[i]);
    float scale = 1.0f / __builtin_sqrtf(squares / dim + epsilon);
    for (int i = 0; i < dim; i++)
        head[i] = store(load(weight[i]) * load(store(load(head[i]) * scale)));
}

DISPATCHED static void rotate(scalar *head, const float *angles, int half) {
    for (int i = 0; i < half; i++) {
        float first = load(head[i]), second = load(head[i + half]);
        head[i] = store(first * angles[i] - second * angles[i + half]);
        head[i + half] = store(second * angles[i] + first * angles[i + half]);
    }
}

// One token's keys and values, to its slot of the page.
static void write_token(const Cache *cache, const scalar *keys, int token) {
    int dim = cache->head_dim, block = cache->block_tokens;
    int sequence = cache->sequence[token], position = cache->positions[token];
    int slot = position % block;
    const scalar *values = keys + cache->num_kv_heads * dim;
    for (int head = 0; head < cache->num_kv_heads; head++) {
        scalar *k = kv_head(cache, sequence, position, KEYS, head);
        scalar *v = kv_head(cache, sequence, position, VALUES, head);
        for (int i = 0; i < dim; i++) k[i * block + slot] = keys[head * dim + i];
        memcpy(v + slot * dim, values + head * dim, dim * sizeof(scalar));
    }
}

EXPORT void rope_and_cache(const Cache *cache, scalar *qkv, int64_t qkv_stride,
                           const float *rotary, int32_t rotary_dim, const scalar *query_norm,
                           const scalar *key_norm, float epsilon) {
    int dim = cache->head_dim, num_heads = cache->num_q_heads + cache->num_kv_heads;
#pragma omp parallel for if (cache->num_tokens >= 8)
    for (int token = 0; token < cache->num_tokens; token++) {
        int position = cache->positions[token];
        if (position < 0) continue;  // padding
        scalar *heads = qkv + token * qkv_stride;
        for (int head = 0; head < num_heads; head++) {
            const scalar *weight = head < cache->num_q_heads ? query_norm : key_norm;
            if (weight) norm_head(heads + head * dim, weight, dim, epsilon);
            rotate(heads + head * dim, rotary + (int64_t)position * rotary_dim, rotary_dim / 2);
        }
        write_token(cache, heads + cache->num_q_heads * dim, token);
    }
}
