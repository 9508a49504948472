/* Element types of tensors, in memory and on disk. The numbers are part of the file formats. */
#ifndef TRM_BASE_TYPE_H
#define TRM_BASE_TYPE_H

#include <stddef.h>

enum trm_type { TRM_F32 = 0, TRM_F64 = 1, TRM_BF16 = 2, TRM_I32 = 3, TRM_TYPE_COUNT };

/* Bytes of one element. */
size_t trm_type_bytes(enum trm_type type);

/* "float32", "float64", "bfloat16", "int32"; static. */
const char *trm_type_name(enum trm_type type);

#endif
