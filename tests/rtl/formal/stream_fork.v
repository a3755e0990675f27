// A scoreboard for each of COPIES consumers: whatever the others do, each gets every word.
module properties (input clk, input restart, input s_valid, input [1:0] s_data, input [`COPIES-1:0] m_ready);
    reg started = 0;
    always @(posedge clk) started <= 1;
    wire rst = !started || restart;

    wire s_ready;
    wire [`COPIES-1:0] m_valid;
    wire [1:0] m_data;
    stream_fork #(.WIDTH(2), .COPIES(`COPIES)) dut (
        .clk(clk), .rst(rst), .s_valid(s_valid), .s_ready(s_ready), .s_data(s_data),
        .m_valid(m_valid), .m_ready(m_ready), .m_data(m_data)
    );

    wire [`COPIES-1:0] waits;
    genvar copy;
    generate
        for (copy = 0; copy < `COPIES; copy = copy + 1) begin : consumer
            wire tagged;
            wire [1:0] unit;
            wire [3:0] inside, ahead;
            scoreboard #(.UNIT(2), .CAPACITY(1)) board (
                .clk(clk), .rst(rst), .enter(s_valid && s_ready), .entering(s_data),
                .valid(m_valid[copy]), .ready(m_ready[copy]), .leaving(m_data),
                .inside(inside), .tagged(tagged), .unit(unit), .ahead(ahead)
            );

            assign waits[copy] = inside != 0 && !m_ready[copy];

`ifdef INDUCTION
            always @* if (!rst) begin
                assert (inside == m_valid[copy]);
                assert (!tagged || m_data == unit);
            end
`endif
        end
    endgenerate

    // It waits for no one but the consumers that still have to take the word.
    always @* if (!rst) assert (s_ready == !waits);
endmodule
