// One scoreboard around a register; `started` makes the first cycle one of reset, and others may follow at any time.
module properties (input clk, input restart, input s_valid, input [1:0] s_data, input m_ready);
    reg started = 0;
    always @(posedge clk) started <= 1;
    wire rst = !started || restart;

    wire s_ready, m_valid;
    wire [1:0] m_data;
    stream_register #(.WIDTH(2)) dut (
        .clk(clk), .rst(rst), .s_valid(s_valid), .s_ready(s_ready), .s_data(s_data),
        .m_valid(m_valid), .m_ready(m_ready), .m_data(m_data)
    );

    wire tagged;
    wire [1:0] unit;
    wire [3:0] inside, ahead;
    scoreboard #(.UNIT(2), .CAPACITY(1)) board (
        .clk(clk), .rst(rst), .enter(s_valid && s_ready), .entering(s_data),
        .valid(m_valid), .ready(m_ready), .leaving(m_data),
        .inside(inside), .tagged(tagged), .unit(unit), .ahead(ahead)
    );

    always @* if (!rst) assert (s_ready == (inside == 0 || m_ready));

`ifdef INDUCTION
    always @* if (!rst) begin
        assert (inside == m_valid);
        assert (!tagged || m_data == unit);
    end
`endif
endmodule
