// Reorders a raster of pixels (FOLDS words each) into the taps of a sliding window: for every output pixel its KH * KW
// taps, padding included. Latency 2 cycles from the word that a tap waits for (1 to store, 1 to read), one word a cycle
// on either side. Frames overlap: rows that no window needs any more are overwritten by the next frame, and words that
// no window reads are drained.
`default_nettype none

module sliding_window #(
    parameter ELEMENT = 8,
    parameter LANES = 1,
    parameter FOLDS = 1,
    parameter ROWS = 8,
    parameter COLS = 8,
    parameter KH = 3,
    parameter KW = 3,
    parameter SH = 1,
    parameter SW = 1,
    parameter DH = 1,
    parameter DW = 1,
    parameter PT = 0,
    parameter PL = 0,
    parameter OH = 6,
    parameter OW = 6,
    parameter PAD = 0,
    parameter BUFFER = 32,
    // The style is read by synthesis alone, through the attribute.
    /* verilator lint_off UNUSEDPARAM */
    parameter STYLE = "block"
    /* verilator lint_on UNUSEDPARAM */
) (
    input  wire                     clk,
    input  wire                     rst,
    input  wire                     s_valid,
    output wire                     s_ready,
    input  wire [LANES*ELEMENT-1:0] s_data,
    output reg                      m_valid,
    input  wire                     m_ready,
    output wire [LANES*ELEMENT-1:0] m_data
);

    localparam ROW = COLS * FOLDS;
    localparam TAIL = ROWS - (OH - 1) * SH;
    localparam BOTTOM = (OH - 1) * SH - PT + (KH - 1) * DH;
    localparam RIGHT = (OW - 1) * SW - PL + (KW - 1) * DW;

    // One signed width for the lead of the writer and for the position of a tap, both counted from the word at the
    // start of the window's top row.
    localparam ADVANCE = ((SH > TAIL) ? SH : TAIL) * ROW;
    localparam REACH = (KH - 1) * DH * ROW + (RIGHT + 1) * FOLDS;
    localparam SPAN_A = (BUFFER > ADVANCE) ? BUFFER : ADVANCE;
    localparam SPAN_B = (SPAN_A > REACH) ? SPAN_A : REACH;
    localparam SPAN = (SPAN_B > PL * FOLDS) ? SPAN_B : PL * FOLDS;
    localparam POSITION = $clog2(SPAN + 1) + 1;

    localparam FOLD_WIDTH = (FOLDS > 1) ? $clog2(FOLDS) : 1;
    localparam KW_WIDTH = (KW > 1) ? $clog2(KW) : 1;
    localparam KH_WIDTH = (KH > 1) ? $clog2(KH) : 1;
    localparam OW_WIDTH = (OW > 1) ? $clog2(OW) : 1;
    localparam OH_WIDTH = (OH > 1) ? $clog2(OH) : 1;
    localparam X_SPAN = ((RIGHT > COLS) ? RIGHT : COLS) + PL + 1;
    localparam Y_SPAN = ((BOTTOM > ROWS) ? BOTTOM : ROWS) + PT + 1;
    localparam X_WIDTH = $clog2(X_SPAN) + 1;
    localparam Y_WIDTH = $clog2(Y_SPAN) + 1;
    localparam ADDRESS = (BUFFER > 1) ? $clog2(BUFFER) : 1;

    // Constants that the parameters keep within their widths.
    /* verilator lint_off WIDTH */
    localparam [FOLD_WIDTH-1:0] LAST_FOLD = FOLDS - 1;
    localparam [KW_WIDTH-1:0] LAST_KW = KW - 1;
    localparam [KH_WIDTH-1:0] LAST_KH = KH - 1;
    localparam [OW_WIDTH-1:0] LAST_OW = OW - 1;
    localparam [OH_WIDTH-1:0] LAST_OH = OH - 1;

    // Every step of the window moves its position by one of these constants.
    localparam signed [POSITION-1:0] TO_FOLD = 1;
    localparam signed [POSITION-1:0] TO_KW = DW * FOLDS - (FOLDS - 1);
    localparam signed [POSITION-1:0] TO_KH = DH * ROW - (KW - 1) * DW * FOLDS - (FOLDS - 1);
    localparam signed [POSITION-1:0] TO_OW = (SW - (KW - 1) * DW) * FOLDS - (KH - 1) * DH * ROW - (FOLDS - 1);
    localparam signed [POSITION-1:0] LEFT = -PL * FOLDS;
    localparam signed [X_WIDTH-1:0] X_LEFT = -PL;
    localparam signed [X_WIDTH-1:0] X_KW = DW;
    localparam signed [X_WIDTH-1:0] X_KH = -(KW - 1) * DW;
    localparam signed [X_WIDTH-1:0] X_OW = SW - (KW - 1) * DW;
    localparam signed [X_WIDTH-1:0] X_END = COLS;
    localparam signed [Y_WIDTH-1:0] Y_TOP = -PT;
    localparam signed [Y_WIDTH-1:0] Y_KH = DH;
    localparam signed [Y_WIDTH-1:0] Y_OW = -(KH - 1) * DH;
    localparam signed [Y_WIDTH-1:0] Y_OH = SH - (KH - 1) * DH;
    localparam signed [Y_WIDTH-1:0] Y_END = ROWS;

    localparam signed [POSITION-1:0] FULL = BUFFER;
    localparam signed [POSITION-1:0] LEAD_START = PT * ROW;
    localparam signed [POSITION-1:0] LEAD_WRITE = 1;
    localparam signed [POSITION-1:0] LEAD_ROW = -SH * ROW;
    localparam signed [POSITION-1:0] LEAD_TAIL = -TAIL * ROW;
    localparam signed [POSITION-1:0] LEAD_WRITE_ROW = 1 - SH * ROW;
    localparam signed [POSITION-1:0] LEAD_WRITE_TAIL = 1 - TAIL * ROW;

    // Addresses in the ring wrap by one conditional subtraction, so the steps are reduced beforehand.
    localparam [ADDRESS-1:0] LAST_ADDRESS = BUFFER - 1;
    localparam [ADDRESS:0] SIZE = BUFFER;
    localparam [ADDRESS-1:0] BASE_START = (BUFFER - (PT * ROW) % BUFFER) % BUFFER;
    localparam [ADDRESS:0] BASE_ROW = (SH * ROW) % BUFFER;
    localparam [ADDRESS:0] BASE_TAIL = (TAIL * ROW) % BUFFER;
    /* verilator lint_on WIDTH */

    (* ram_style = STYLE, no_rw_check *) reg [LANES*ELEMENT-1:0] ring [0:BUFFER-1];

    // Words written less the index of the first word of the window's top row. Negative where the window has moved on
    // past words that have not come yet: these are taken and never read.
    reg signed [POSITION-1:0] lead;

    // Writer.
    reg [ADDRESS-1:0] write_address;
    wire write = s_valid && s_ready;

    assign s_ready = lead < FULL;

    always @(posedge clk) begin
        if (write) ring[write_address] <= s_data;
        if (rst) write_address <= {ADDRESS{1'b0}};
        else if (write) write_address <= (write_address == LAST_ADDRESS) ? {ADDRESS{1'b0}} : write_address + 1'b1;
    end

    // Reader: counters of the nested loops, and what follows from them kept up by additions.
    reg [FOLD_WIDTH-1:0] fold;
    reg [KW_WIDTH-1:0] kw;
    reg [KH_WIDTH-1:0] kh;
    reg [OW_WIDTH-1:0] ow;
    reg [OH_WIDTH-1:0] oh;
    reg signed [X_WIDTH-1:0] x;
    reg signed [Y_WIDTH-1:0] y;
    reg signed [POSITION-1:0] position;
    reg [ADDRESS-1:0] base;

    wire end_fold = fold == LAST_FOLD;
    wire end_kw = end_fold && kw == LAST_KW;
    wire end_kh = end_kw && kh == LAST_KH;
    wire end_ow = end_kh && ow == LAST_OW;
    wire end_oh = end_ow && oh == LAST_OH;

    // Where no tap leaves the image, the constants let synthesis drop the coordinates.
    localparam PADDED_X = PL > 0 || RIGHT >= COLS;
    localparam PADDED_Y = PT > 0 || BOTTOM >= ROWS;
    wire padding = (PADDED_X && (x[X_WIDTH-1] || x >= X_END)) || (PADDED_Y && (y[Y_WIDTH-1] || y >= Y_END));
    wire fire = (!m_valid || m_ready) && (padding || lead > position);

    wire [ADDRESS:0] sum = {1'b0, base} + {1'b0, position[ADDRESS-1:0]};
    wire [ADDRESS-1:0] wrapped = sum[ADDRESS-1:0] - ((sum >= SIZE) ? SIZE[ADDRESS-1:0] : {ADDRESS{1'b0}});
    wire [ADDRESS:0] moved = {1'b0, base} + (end_oh ? BASE_TAIL : BASE_ROW);
    wire [ADDRESS-1:0] moved_wrapped = moved[ADDRESS-1:0] - ((moved >= SIZE) ? SIZE[ADDRESS-1:0] : {ADDRESS{1'b0}});

    always @(posedge clk) begin
        if (rst) begin
            fold <= {FOLD_WIDTH{1'b0}};
            kw <= {KW_WIDTH{1'b0}};
            kh <= {KH_WIDTH{1'b0}};
            ow <= {OW_WIDTH{1'b0}};
            oh <= {OH_WIDTH{1'b0}};
            x <= X_LEFT;
            y <= Y_TOP;
            position <= LEFT;
            base <= BASE_START;
        end else if (fire) begin
            fold <= end_fold ? {FOLD_WIDTH{1'b0}} : fold + 1'b1;
            if (end_fold) kw <= end_kw ? {KW_WIDTH{1'b0}} : kw + 1'b1;
            if (end_kw) kh <= end_kh ? {KH_WIDTH{1'b0}} : kh + 1'b1;
            if (end_kh) ow <= end_ow ? {OW_WIDTH{1'b0}} : ow + 1'b1;
            if (end_ow) oh <= end_oh ? {OH_WIDTH{1'b0}} : oh + 1'b1;

            if (end_ow) x <= X_LEFT;
            else if (end_kh) x <= x + X_OW;
            else if (end_kw) x <= x + X_KH;
            else if (end_fold) x <= x + X_KW;

            if (end_oh) y <= Y_TOP;
            else if (end_ow) y <= y + Y_OH;
            else if (end_kh) y <= y + Y_OW;
            else if (end_kw) y <= y + Y_KH;

            if (end_ow) position <= LEFT;
            else position <= position + (end_kh ? TO_OW : end_kw ? TO_KH : end_fold ? TO_KW : TO_FOLD);

            if (end_ow) base <= moved_wrapped;
        end

        if (rst) lead <= LEAD_START;
        else if (fire && end_oh) lead <= lead + (write ? LEAD_WRITE_TAIL : LEAD_TAIL);
        else if (fire && end_ow) lead <= lead + (write ? LEAD_WRITE_ROW : LEAD_ROW);
        else if (write) lead <= lead + LEAD_WRITE;
    end

    // The memory's own output register is the stream's; a flag beside it puts the padding in.
    reg [LANES*ELEMENT-1:0] word;
    reg blank;
    // Constants that the parameters keep within their widths.
    /* verilator lint_off WIDTH */
    localparam [ELEMENT-1:0] PAD_ELEMENT = PAD;
    /* verilator lint_on WIDTH */

    always @(posedge clk) begin
        if (fire && !padding) word <= ring[wrapped];
        if (fire) blank <= padding;
        if (rst) m_valid <= 1'b0;
        else if (!m_valid || m_ready) m_valid <= fire;
    end

    assign m_data = blank ? {LANES{PAD_ELEMENT}} : word;

endmodule

`default_nettype wire
