/* The arguments of each compiled function by name, one struct a function. This file is read twice: by the compiler, and by
   rhn/kernels/compiled/arguments.py, which makes the same structs for ctypes and compares every tensor with the shape in its comment
   before a pointer leaves Python. One declaration a line.

   Sizes: legend in rhn/kernels/__init__.py; `rows` is B filled up to a multiple of 32 (LANES), `blocks` rows / 32. A tensor has the
   axis of the models before its shape. "or NULL": it may be absent; "written": the function writes to it. */

typedef struct {
    float *data;
    long stride; /* numbers from one model to the next; 0: the models share it */
} Tensor;

struct rhn_highway_forward {
    long T, B, m, n, L, G, J; /* G = 2: c = 1 - t; G = 3: c has a gate of its own; J: masks of the state, 0, 1 or G */
    Tensor x; /* T B m */
    Tensor s0; /* n rows */
    Tensor W; /* G*n m */
    Tensor R; /* L G*n n */
    Tensor b; /* L G*n */
    Tensor state_mask; /* J*n rows, or NULL */
    Tensor candidate_mask; /* n rows, or NULL */
    Tensor y; /* T n rows, written */
    Tensor gates; /* blocks T L G*n 32, written or NULL */
};

struct rhn_highway_backward {
    long T, B, m, n, L, G, J;
    Tensor x; /* T B m */
    Tensor s0; /* n rows */
    Tensor W; /* G*n m */
    Tensor R; /* L G*n n */
    Tensor state_mask; /* J*n rows, or NULL */
    Tensor candidate_mask; /* n rows, or NULL */
    Tensor y; /* T n rows */
    Tensor gates; /* blocks T L G*n 32 */
    Tensor dy; /* T n rows */
    Tensor dx; /* T m rows, written or NULL */
    Tensor ds0; /* n rows, written */
    Tensor dW; /* G*n m, written */
    Tensor dR; /* L G*n n, written */
    Tensor db; /* L G*n, written */
};

struct rhn_transition_forward {
    long T, B, m, n, L, relu, shortcuts; /* relu: whether f is relu, else tanh; shortcuts: how many of the last layers have one */
    Tensor x; /* T B m */
    Tensor s0; /* n rows */
    Tensor W; /* n m */
    Tensor R; /* L n n */
    Tensor b; /* L n */
    Tensor S; /* shortcuts n n, or NULL */
    Tensor state_mask; /* n rows, or NULL */
    Tensor y; /* T n rows, written */
    Tensor outputs; /* blocks T L n 32, written or NULL */
};

struct rhn_transition_backward {
    long T, B, m, n, L, relu, shortcuts;
    Tensor x; /* T B m */
    Tensor s0; /* n rows */
    Tensor W; /* n m */
    Tensor R; /* L n n */
    Tensor S; /* shortcuts n n, or NULL */
    Tensor state_mask; /* n rows, or NULL */
    Tensor y; /* T n rows */
    Tensor outputs; /* blocks T L n 32 */
    Tensor dy; /* T n rows */
    Tensor dx; /* T m rows, written or NULL */
    Tensor ds0; /* n rows, written */
    Tensor dW; /* n m, written */
    Tensor dR; /* L n n, written */
    Tensor db; /* L n, written */
    Tensor dS; /* shortcuts n n, written or NULL */
};

struct rhn_bernoulli {
    long T, B, n, keys;
    Tensor y; /* T n rows */
    Tensor W; /* keys n */
    Tensor b; /* keys */
    Tensor frames; /* T keys rows */
    Tensor mask; /* T rows */
    Tensor dy; /* T n rows, written or NULL: no gradients are wanted */
    Tensor dW; /* keys n, written or NULL */
    Tensor db; /* keys, written or NULL */
    double *totals; /* one number a model, written */
};

struct rhn_softmax_forward {
    long groups, B, n, V, tiles; /* B: rows of a group, which share a mask; tiles: of 32 words */
    Tensor y; /* groups B n */
    Tensor U; /* V n */
    Tensor b; /* V */
    Tensor targets; /* groups B */
    Tensor mask; /* groups n, or NULL */
    Tensor nll; /* groups rows, written */
    Tensor scale; /* groups tiles rows, written or NULL */
    Tensor e; /* groups tiles B 32, written or NULL */
};

struct rhn_softmax_states {
    long groups, B, n, V, tiles;
    Tensor U; /* V n */
    Tensor targets; /* groups B */
    Tensor mask; /* groups n, or NULL */
    Tensor scale; /* groups tiles rows */
    Tensor e; /* groups tiles B 32 */
    Tensor grad; /* groups B */
    Tensor dy; /* groups B n, written */
};

struct rhn_softmax_weights {
    long groups, B, n, V, tiles;
    Tensor y; /* groups B n */
    Tensor targets; /* groups B */
    Tensor mask; /* groups n, or NULL */
    Tensor scale; /* groups tiles rows */
    Tensor e; /* groups tiles B 32 */
    Tensor grad; /* groups B */
    Tensor dU; /* V n, written */
    Tensor db; /* V, written */
};
