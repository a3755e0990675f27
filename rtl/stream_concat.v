// Joins two streams word after word: A_WORDS of the first, then B_WORDS of the second, and again. Latency 1 cycle, one word a
// cycle.
`default_nettype none

module stream_concat #(
    parameter WIDTH = 8,
    parameter A_WORDS = 1,
    parameter B_WORDS = 1
) (
    input  wire             clk,
    input  wire             rst,
    input  wire             a_valid,
    output wire             a_ready,
    input  wire [WIDTH-1:0] a_data,
    input  wire             b_valid,
    output wire             b_ready,
    input  wire [WIDTH-1:0] b_data,
    output reg              m_valid,
    input  wire             m_ready,
    output reg  [WIDTH-1:0] m_data
);

    localparam LONGER = (A_WORDS > B_WORDS) ? A_WORDS : B_WORDS;
    localparam COUNT = (LONGER > 1) ? $clog2(LONGER) : 1;
    // Constants that the parameters keep within their widths.
    /* verilator lint_off WIDTH */
    localparam [COUNT-1:0] LAST_A = A_WORDS - 1;
    localparam [COUNT-1:0] LAST_B = B_WORDS - 1;
    /* verilator lint_on WIDTH */

    reg second;
    reg [COUNT-1:0] word;

    wire free = !m_valid || m_ready;
    wire fire = free && (second ? b_valid : a_valid);
    wire last = word == (second ? LAST_B : LAST_A);

    assign a_ready = free && !second;
    assign b_ready = free && second;

    always @(posedge clk) begin
        if (free) m_data <= second ? b_data : a_data;
        if (rst) m_valid <= 1'b0;
        else if (free) m_valid <= fire;
        if (rst) second <= 1'b0;
        else if (fire && last) second <= !second;
        if (rst) word <= {COUNT{1'b0}};
        else if (fire) word <= last ? {COUNT{1'b0}} : word + 1'b1;
    end

endmodule

`default_nettype wire
