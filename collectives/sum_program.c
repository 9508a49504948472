#include "collectives/sum_program.h"

#include "base/assert.h"

/* Operands whose sums lie on the stack, from the bottom. */
struct stack {
    int operands[TRM_SUM_DEPTH];
    int height;
};

static int find(const struct stack *stack, int operand)
{
    for (int i = stack->height - 1; i >= 0; i--)
        if (stack->operands[i] == operand)
            return i;
    return -1;
}

static void emit(struct trm_sum_program *p, int step, void *address)
{
    TRM_ASSERT(p->step_count < TRM_SUM_STEPS);
    p->steps[p->step_count++] = (uint8_t)step;
    if (address) {
        TRM_ASSERT(p->address_count < TRM_SUM_ADDRESSES);
        p->addresses[p->address_count++] = address;
    }
}

static void load(struct trm_sum_program *p, struct stack *stack, const struct trm_sum *sum,
                 int operand)
{
    emit(p, TRM_SUM_LOAD(stack->height), sum->operands[operand]);
    stack->operands[stack->height++] = operand;
}

/* Stores what is on the stack, from the top; operand 0 at `first`. */
static void store_all(struct trm_sum_program *p, struct stack *stack, const struct trm_sum *sum,
                      void *first)
{
    while (stack->height > 0) {
        int operand = stack->operands[--stack->height];
        emit(p, TRM_SUM_STORE(stack->height), operand == 0 ? first : sum->operands[operand]);
    }
}

/* How many of the two operands are on the stack, where the addition finds them: both on top, or
 * one of them. -1 when they lie elsewhere or there is no room for them. */
static int ready_operands(const struct stack *stack, struct trm_lane_add add)
{
    int target = find(stack, add.target), source = find(stack, add.source);
    int top = stack->height - 1, lower = target < source ? target : source;
    int upper = target < source ? source : target;

    if (upper < 0)
        return stack->height + 2 <= TRM_SUM_DEPTH ? 0 : -1;
    if (lower < 0)
        return upper == top && stack->height + 1 <= TRM_SUM_DEPTH ? 1 : -1;
    return upper == top && lower == top - 1 ? 2 : -1;
}

/* Addition commutes, so either operand may lie on top. */
static void translate_add(struct trm_sum_program *p, struct stack *stack, const struct trm_sum *sum)
{
    struct trm_lane_add add = sum->adds[sum->next];

    if (find(stack, add.target) < 0 && find(stack, add.source) < 0)
        load(p, stack, sum, add.target);
    if (find(stack, add.target) < 0)
        load(p, stack, sum, add.target);
    else if (find(stack, add.source) < 0)
        load(p, stack, sum, add.source);
    emit(p, TRM_SUM_ADD(stack->height - 1), NULL);
    stack->height--;
    stack->operands[stack->height - 1] = add.target;
}

/* Room for two loads, the addition, and the stores of all that may be on the stack then, one of
 * which may have to be loaded for it. */
static bool has_room(const struct trm_sum_program *p)
{
    return p->address_count + 2 + TRM_SUM_DEPTH + 1 <= TRM_SUM_ADDRESSES &&
           p->step_count + 3 + TRM_SUM_DEPTH + 1 <= TRM_SUM_STEPS;
}

void trm_sum_translate(struct trm_sum *sum, struct trm_sum_program *program)
{
    struct stack stack = {.height = 0};
    void *first = sum->operands[0];

    program->step_count = program->address_count = 0;
    while (sum->next < sum->add_count && has_room(program)) {
        if (ready_operands(&stack, sum->adds[sum->next]) < 0) {
            store_all(program, &stack, sum, first);
            sum->spilled = true;
            continue; /* the stores may have taken the room */
        }
        translate_add(program, &stack, sum);
        sum->next++;
    }
    sum->done = sum->next == sum->add_count;
    if (sum->done && sum->into) {
        if (find(&stack, 0) < 0) {
            store_all(program, &stack, sum, first);
            load(program, &stack, sum, 0);
        }
        first = sum->into;
    }
    sum->spilled = sum->spilled || !sum->done;
    store_all(program, &stack, sum, first);
}
