// Marks the last beat of every frame of BEATS beats. Latency 0: valid, ready and data pass straight through,
// a counter of transfers stands beside them.
`default_nettype none

module frame_last #(
    parameter WIDTH = 8,
    parameter BEATS = 1
) (
    input  wire             clk,
    input  wire             rst,
    input  wire             s_valid,
    output wire             s_ready,
    input  wire [WIDTH-1:0] s_data,
    output wire             m_valid,
    input  wire             m_ready,
    output wire [WIDTH-1:0] m_data,
    output wire             m_last
);

    localparam COUNT_WIDTH = (BEATS > 1) ? $clog2(BEATS) : 1;
    // A constant that the parameter keeps within its width.
    /* verilator lint_off WIDTH */
    localparam [COUNT_WIDTH-1:0] LAST = BEATS - 1;
    /* verilator lint_on WIDTH */

    reg [COUNT_WIDTH-1:0] beat;

    assign s_ready = m_ready;
    assign m_valid = s_valid;
    assign m_data = s_data;
    assign m_last = beat == LAST;

    always @(posedge clk) begin
        if (rst) beat <= {COUNT_WIDTH{1'b0}};
        else if (s_valid && m_ready) beat <= m_last ? {COUNT_WIDTH{1'b0}} : beat + 1'b1;
    end

endmodule

`default_nettype wire
