// Words of streams and the constants beside them. A word holds elements side by side, two's complement, the first in the least
// significant bits.
#ifndef LEPTON_WORDS_H
#define LEPTON_WORDS_H

#ifndef AP_INT_MAX_W
#define AP_INT_MAX_W 4096
#endif
#include <ap_int.h>
#include <hls_stream.h>
#include <stdint.h>

namespace lepton {

template <int A, int B>
struct Larger {
    static const int value = (A > B) ? A : B;
};

// The type in which a constant of BITS stands in a table: just as wide in hardware, and one that a compiler initialises before
// the program runs elsewhere.
#ifdef __SYNTHESIS__
template <int BITS>
struct Constant {
    typedef ap_int<BITS> type;
};
#else
template <int BYTES>
struct Native {
    typedef int64_t type;
};
template <>
struct Native<1> {
    typedef int8_t type;
};
template <>
struct Native<2> {
    typedef int16_t type;
};
template <>
struct Native<3> {
    typedef int32_t type;
};
template <>
struct Native<4> {
    typedef int32_t type;
};
template <int BITS>
struct Constant {
    typedef typename Native<(BITS + 7) / 8>::type type;
};
#endif

template <int BITS, int WIDTH>
ap_int<BITS> element(const ap_uint<WIDTH>& word, int index) {
#pragma HLS INLINE
    const ap_uint<BITS> field = word.range((index + 1) * BITS - 1, index * BITS);
    return ap_int<BITS>(field);
}

template <int BITS, int WIDTH>
void put(ap_uint<WIDTH>& word, int index, const ap_int<BITS>& value) {
#pragma HLS INLINE
    word.range((index + 1) * BITS - 1, index * BITS) = ap_uint<BITS>(value);
}

}  // namespace lepton

#endif
