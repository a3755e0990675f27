// Replaces each element by an entry of a table in outside memories, one for each lane; an element is the address as it is, two's
// complement. Latency 1 cycle, one word a cycle.
`default_nettype none

module lookup #(
    parameter IN_WIDTH = 8,
    parameter OUT_WIDTH = 8,
    parameter LANES = 1
) (
    input  wire                       clk,
    input  wire                       rst,
    input  wire                       s_valid,
    output wire                       s_ready,
    input  wire [LANES*IN_WIDTH-1:0]  s_data,
    output wire                       t_en,
    output wire [LANES*IN_WIDTH-1:0]  t_addr,
    input  wire [LANES*OUT_WIDTH-1:0] t_data,
    output reg                        m_valid,
    input  wire                       m_ready,
    output wire [LANES*OUT_WIDTH-1:0] m_data
);

    // The memories' own output registers are the stream's.
    assign s_ready = !m_valid || m_ready;
    assign t_en = s_valid && s_ready;
    assign t_addr = s_data;
    assign m_data = t_data;

    always @(posedge clk) begin
        if (rst) m_valid <= 1'b0;
        else if (s_ready) m_valid <= s_valid;
    end

endmodule

`default_nettype wire
