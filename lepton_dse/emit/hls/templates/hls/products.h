// Exact products, of hard multipliers or of logic.
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
};

struct Lut {
    template <int A, int B>
    static ap_int<A + B> multiply(const ap_int<A>& a, const ap_int<B>& b) {
#pragma HLS INLINE
        const ap_int<A + B> product = a * b;
#pragma HLS BIND_OP variable=product op=mul impl=fabric
        return product;
    }
};

}  // namespace lepton

#endif
