// Reorders a raster of pixels (FOLDS words each) into the taps of a sliding window: for every output pixel its KH * KW taps,
// padding included. A ring holds BUFFER words; rows that no window needs any more are overwritten, and words that no window reads
// are taken all the same. In every step a word may come in and a tap may go out, neither waiting for the other.
#ifndef LEPTON_SLIDING_WINDOW_H
#define LEPTON_SLIDING_WINDOW_H

#include "words.h"

namespace lepton {

template <class S>
void sliding_window(hls::stream<ap_uint<S::LANES * S::ELEMENT> >& in, hls::stream<ap_uint<S::LANES * S::ELEMENT> >& out) {
    const int ROW = S::COLS * S::FOLDS;
    const int IMAGE = S::ROWS * ROW;
    const int TAPS = S::OH * S::OW * S::KH * S::KW * S::FOLDS;
    const int SETTLE = 4;  // steps from the one that stores a word to the first that may read it
    ap_uint<S::LANES * S::ELEMENT> ring[S::BUFFER];
    ap_uint<S::LANES * S::ELEMENT> padding;
    for (int lane = 0; lane < S::LANES; ++lane) {
#pragma HLS UNROLL
        put<S::ELEMENT>(padding, lane, ap_int<S::ELEMENT>(S::PAD));
    }

    for (int period = 0; period < S::PERIODS; ++period) {
        int received = 0, taken = 0, write_address = 0;
        // Counters of the nested loops over taps, and what follows from them kept up by additions.
        int fold = 0, kw = 0, kh = 0, ow = 0;
        int x = -S::PL, y = -S::PT;
        // Words received, those that may be read, and the tap's place, all counted from the word that starts the window's top
        // row, which the ring holds at `base`.
        int lead = S::PT * ROW, settled = S::PT * ROW, position = -S::PL * S::FOLDS;
        int base = (S::BUFFER - (S::PT * ROW) % S::BUFFER) % S::BUFFER;
        ap_uint<SETTLE> fresh = 0;

        while (taken < TAPS || received < IMAGE) {
#pragma HLS PIPELINE II=1 style=flp
#pragma HLS DEPENDENCE variable=ring inter RAW distance=4 true
            const bool outside = x < 0 || x >= S::COLS || y < 0 || y >= S::ROWS;
            const bool room = taken == TAPS || lead < S::BUFFER;
            const bool due = taken < TAPS && (outside || settled > position);
            const bool stored = received < IMAGE && room && !in.empty();
            if (fresh[SETTLE - 1]) ++settled;
            fresh = (fresh << 1) | ap_uint<SETTLE>(stored ? 1 : 0);

            if (due && !out.full()) {
                const int sum = base + position;
                out.write(outside ? padding : ring[sum >= S::BUFFER ? sum - S::BUFFER : sum]);
                ++taken;
                const bool end_fold = fold == S::FOLDS - 1;
                const bool end_kw = end_fold && kw == S::KW - 1;
                const bool end_kh = end_kw && kh == S::KH - 1;
                const bool end_ow = end_kh && ow == S::OW - 1;
                fold = end_fold ? 0 : fold + 1;
                if (end_fold) kw = end_kw ? 0 : kw + 1;
                if (end_kw) kh = end_kh ? 0 : kh + 1;
                if (end_kh) ow = end_ow ? 0 : ow + 1;
                if (end_ow) {
                    x = -S::PL;
                    y += S::SH - (S::KH - 1) * S::DH;
                    position = -S::PL * S::FOLDS;
                    lead -= S::SH * ROW;
                    settled -= S::SH * ROW;
                    base += (S::SH * ROW) % S::BUFFER;
                    if (base >= S::BUFFER) base -= S::BUFFER;
                } else if (end_kh) {
                    x += S::SW - (S::KW - 1) * S::DW;
                    y -= (S::KH - 1) * S::DH;
                    position += (S::SW - (S::KW - 1) * S::DW) * S::FOLDS - (S::KH - 1) * S::DH * ROW - (S::FOLDS - 1);
                } else if (end_kw) {
                    x -= (S::KW - 1) * S::DW;
                    y += S::DH;
                    position += S::DH * ROW - (S::KW - 1) * S::DW * S::FOLDS - (S::FOLDS - 1);
                } else if (end_fold) {
                    x += S::DW;
                    position += S::DW * S::FOLDS - (S::FOLDS - 1);
                } else {
                    ++position;
                }
            }
            if (stored) {
                ring[write_address] = in.read();
                write_address = (write_address == S::BUFFER - 1) ? 0 : write_address + 1;
                ++lead;
                ++received;
            }
        }
    }
}

}  // namespace lepton

#endif
