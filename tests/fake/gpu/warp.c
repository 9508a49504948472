/* The matrix instructions of a warp, from the layout of their fragments in the PTX ISA. */
#include <string.h>

#include "tests/fake/gpu/emulator.h"

static float float_of(uint32_t bits)
{
    float value;
    memcpy(&value, &bits, sizeof(value));
    return value;
}

struct fragments {
    uint32_t a[4], b[2];
};

/* The matrices of a warp. */
struct operands {
    float a[16][16]; /* row, k */
    float b[16][8];  /* k, column */
};

static void gather(struct operands *m, const struct fake_gpu_deposit *deposits)
{
    for (int lane = 0; lane < FAKE_GPU_WARP; lane++) {
        struct fragments f;
        memcpy(&f, &deposits[lane], sizeof(f));
        for (int half = 0; half < 2; half++) {
            const int k = lane % 4 * 2 + half, shift = half ? 0 : 16;
            for (int i = 0; i < 4; i++)
                m->a[lane / 4 + i % 2 * 8][k + i / 2 * 8] = float_of(f.a[i] << shift & 0xFFFF0000u);
            for (int i = 0; i < 2; i++)
                m->b[k + i * 8][lane / 4] = float_of(f.b[i] << shift & 0xFFFF0000u);
        }
    }
}

static void multiply(struct fake_gpu_deposit *deposits)
{
    struct operands m;
    float d[16][8] = {{0}};
    gather(&m, deposits);
    for (int row = 0; row < 16; row++)
        for (int k = 0; k < 16; k++)
            for (int column = 0; column < 8; column++)
                d[row][column] += m.a[row][k] * m.b[k][column];
    for (int lane = 0; lane < FAKE_GPU_WARP; lane++) {
        float out[4];
        for (int i = 0; i < 4; i++)
            out[i] = d[lane / 4 + i / 2 * 8][lane % 4 * 2 + i % 2];
        memcpy(&deposits[lane], out, sizeof(out));
    }
}

void fake_gpu_mma(float d[4], const uint32_t a[4], const uint32_t b[2])
{
    struct fragments mine;
    float product[4];
    memcpy(mine.a, a, sizeof(mine.a));
    memcpy(mine.b, b, sizeof(mine.b));
    memcpy(product, &fake_gpu_combine("mma", &mine, sizeof(mine), multiply)[fake_gpu_lane()],
           sizeof(product));
    for (int i = 0; i < 4; i++)
        d[i] += product[i];
}

void fake_gpu_ldmatrix(uint32_t r[4], const void *row, int transposed)
{
    const uint64_t address = (uint64_t)(uintptr_t)row;
    const struct fake_gpu_deposit *rows = fake_gpu_exchange("ldmatrix", &address, sizeof(address));
    const int lane = fake_gpu_lane();
    for (int matrix = 0; matrix < 4; matrix++) {
        uint16_t element[2];
        for (int e = 0; e < 2; e++) {
            const int i = transposed ? lane % 4 * 2 + e : lane / 4;
            const int j = transposed ? lane / 4 : lane % 4 * 2 + e;
            const char *start = (const char *)(uintptr_t)rows[matrix * 8 + i].word[0];
            memcpy(&element[e], start + j * 2, 2);
        }
        r[matrix] = (uint32_t)element[0] | (uint32_t)element[1] << 16;
    }
}
