// Where keys and values lie; see KvLayout and TokenBatch in kernels/layouts.py.
#pragma once

#include "common.h"

enum { MAX_HEAD_DIM = 256 };

typedef struct {
    scalar *arena;
    int64_t page_elems, layer_offset;
    const int32_t *positions, *sequence, *block_tables;
    int64_t table_stride;
    int32_t num_tokens, num_q_heads, num_kv_heads, head_dim, block_tokens;
} Cache;

enum { KEYS, VALUES };

// The keys or values of one head in the page that holds a position.
static inline scalar *kv_head(const Cache *cache, int sequence, int position, int which, int head) {
    int64_t page =
        cache->block_tables[sequence * cache->table_stride + position / cache->block_tokens];
    int64_t head_elems = (int64_t)cache->block_tokens * cache->head_dim;
    return cache->arena + page * cache->page_elems + cache->layer_offset +
           (which * cache->num_kv_heads + head) * head_elems;
}
