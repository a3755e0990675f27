// One elastic register on a stream: ready when empty or being emptied. Latency 1 cycle, one beat a cycle.
`default_nettype none

module stream_register #(
    parameter WIDTH = 8
) (
    input  wire             clk,
    input  wire             rst,
    input  wire             s_valid,
    output wire             s_ready,
    input  wire [WIDTH-1:0] s_data,
    output reg              m_valid,
    input  wire             m_ready,
    output reg  [WIDTH-1:0] m_data
);

    assign s_ready = !m_valid || m_ready;

    always @(posedge clk) begin
        // The data need no reset: valid says whether they mean anything.
        if (s_ready) m_data <= s_data;
        if (rst) m_valid <= 1'b0;
        else if (s_ready) m_valid <= s_valid;
    end

endmodule

`default_nettype wire
