// Sum of each lane over TAPS words (signed) plus INIT, for FOLDS interleaved groups of lanes in the order of max_pool;
// a requantize behind it divides. Latency 1 cycle after a fold's last tap; takes one word a cycle.
`default_nettype none

module average_pool #(
    parameter ELEMENT = 8,
    parameter LANES = 1,
    parameter FOLDS = 1,
    parameter TAPS = 4,
    parameter SUM_WIDTH = 10,
    parameter INIT = 0
) (
    input  wire                       clk,
    input  wire                       rst,
    input  wire                       s_valid,
    output wire                       s_ready,
    input  wire [LANES*ELEMENT-1:0]   s_data,
    output reg                        m_valid,
    input  wire                       m_ready,
    output reg  [LANES*SUM_WIDTH-1:0] m_data
);

    localparam FOLD_WIDTH = (FOLDS > 1) ? $clog2(FOLDS) : 1;
    localparam TAP_WIDTH = (TAPS > 1) ? $clog2(TAPS) : 1;
    // Constants that the parameters keep within their widths.
    /* verilator lint_off WIDTH */
    localparam [FOLD_WIDTH-1:0] LAST_FOLD = FOLDS - 1;
    localparam [TAP_WIDTH-1:0] LAST_TAP = TAPS - 1;
    localparam signed [SUM_WIDTH-1:0] START = INIT;
    /* verilator lint_on WIDTH */

    reg [FOLD_WIDTH-1:0] fold;
    reg [TAP_WIDTH-1:0] tap;

    wire first = tap == {TAP_WIDTH{1'b0}};
    wire last = tap == LAST_TAP;
    wire free = !m_valid || m_ready;
    wire fire = s_valid && s_ready;

    wire [LANES*SUM_WIDTH-1:0] partial;
    wire [LANES*SUM_WIDTH-1:0] result;

    assign s_ready = !last || free;

    genvar lane;
    generate
        for (lane = 0; lane < LANES; lane = lane + 1) begin : lanes
            wire [SUM_WIDTH-1:0] element = {
                {(SUM_WIDTH - ELEMENT + 1){s_data[lane*ELEMENT + ELEMENT - 1]}},
                s_data[lane*ELEMENT +: ELEMENT - 1]
            };
            wire [SUM_WIDTH-1:0] earlier = first ? START : partial[lane*SUM_WIDTH +: SUM_WIDTH];

            assign result[lane*SUM_WIDTH +: SUM_WIDTH] = earlier + element;
        end

        if (FOLDS == 1) begin : one
            reg [LANES*SUM_WIDTH-1:0] kept;

            always @(posedge clk) if (fire) kept <= result;

            assign partial = kept;
        end else begin : several
            (* ram_style = "distributed", no_rw_check *) reg [LANES*SUM_WIDTH-1:0] kept [0:FOLDS-1];

            always @(posedge clk) if (fire) kept[fold] <= result;

            assign partial = kept[fold];
        end
    endgenerate

    always @(posedge clk) begin
        if (fire && last) m_data <= result;
        if (rst) m_valid <= 1'b0;
        else if (free) m_valid <= fire && last;
        if (rst) fold <= {FOLD_WIDTH{1'b0}};
        else if (fire) fold <= (fold == LAST_FOLD) ? {FOLD_WIDTH{1'b0}} : fold + 1'b1;
        if (rst) tap <= {TAP_WIDTH{1'b0}};
        else if (fire && fold == LAST_FOLD) tap <= last ? {TAP_WIDTH{1'b0}} : tap + 1'b1;
    end

endmodule

`default_nettype wire
