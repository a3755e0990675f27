// Words of IN_LANES elements as words of OUT_LANES; one of both divides the other.
#ifndef LEPTON_WIDTH_CONVERTER_H
#define LEPTON_WIDTH_CONVERTER_H

#include "words.h"

namespace lepton {

template <class S>
void width_converter(hls::stream<ap_uint<S::IN_LANES * S::ELEMENT> >& in,
                     hls::stream<ap_uint<S::OUT_LANES * S::ELEMENT> >& out) {
    const int WIDE = Larger<S::IN_LANES, S::OUT_LANES>::value * S::ELEMENT;
    const int NARROW = (S::IN_LANES + S::OUT_LANES) * S::ELEMENT - WIDE;
    const int PARTS = WIDE / NARROW;
    ap_uint<WIDE> held = 0;

    for (int period = 0; period < S::PERIODS; ++period) {
        for (int part = 0; part < PARTS; ++part) {
#pragma HLS PIPELINE II=1 style=flp
            const int low = part * NARROW;
            if (S::IN_LANES > S::OUT_LANES) {
                if (part == 0) held = in.read();
                out.write(ap_uint<S::OUT_LANES * S::ELEMENT>(held.range(low + NARROW - 1, low)));
            } else {
                held.range(low + NARROW - 1, low) = in.read();
                if (part == PARTS - 1) out.write(ap_uint<S::OUT_LANES * S::ELEMENT>(held));
            }
        }
    }
}

}  // namespace lepton

#endif
