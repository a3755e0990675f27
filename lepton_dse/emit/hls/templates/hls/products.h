// Exact products, of hard multipliers or of logic. `multiply_rows` gives those of one operand with the weights of ROWS rows.
#ifndef LEPTON_PRODUCTS_H
#define LEPTON_PRODUCTS_H

#include "words.h"

namespace lepton {

struct Dsp {
    template <int A, int B>
    static ap_int<A + B> multiply(const ap_int<A>& a, const ap_int<B>& b) {
#pragma HLS INLINE
        const ap_int<A + B> product = a * b;
#pragma HLS BIND_OP variable=product op=mul impl=dsp
        return product;
    }

    static const int ROWS = 1;

    template <int A, int B>
    static void multiply_rows(const ap_int<A>& a, const ap_int<B> (&b)[ROWS], ap_int<A + B> (&products)[ROWS]) {
#pragma HLS INLINE
        products[0] = multiply(a, b[0]);
    }
};

struct Lut {
    template <int A, int B>
    static ap_int<A + B> multiply(const ap_int<A>& a, const ap_int<B>& b) {
#pragma HLS INLINE
        const ap_int<A + B> product = a * b;
#pragma HLS BIND_OP variable=product op=mul impl=fabric
        return product;
    }

    static const int ROWS = 1;

    template <int A, int B>
    static void multiply_rows(const ap_int<A>& a, const ap_int<B> (&b)[ROWS], ap_int<A + B> (&products)[ROWS]) {
#pragma HLS INLINE
        products[0] = multiply(a, b[0]);
    }
};

// Two products by one hard multiplier: a negative lower one borrows one from the upper.
struct Packed {
    static const int ROWS = 2;

    template <int A, int B>
    static void multiply_rows(const ap_int<A>& a, const ap_int<B> (&b)[ROWS], ap_int<A + B> (&products)[ROWS]) {
#pragma HLS INLINE
        const ap_int<A + 2 * B + 1> operand = (ap_int<A + 2 * B + 1>(b[1]) << (A + B)) + b[0];
        const ap_int<2 * A + 2 * B + 1> both = a * operand;
#pragma HLS BIND_OP variable=both op=mul impl=dsp
        products[0] = ap_int<A + B>(both.range(A + B - 1, 0));
        products[1] = ap_int<A + B>(both.range(2 * (A + B) - 1, A + B)) + ap_int<2>(both[A + B - 1]);
    }
};

}  // namespace lepton

#endif
