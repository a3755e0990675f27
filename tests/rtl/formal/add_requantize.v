// A scoreboard around a sum of two streams: every pair of beats is taken together, and its sum, computed here at once from what
// was taken, comes out in its turn.
module properties (
    input clk, input restart, input a_valid, input [1:0] a_data, input b_valid, input [1:0] b_data, input m_ready
);
    reg started = 0;
    always @(posedge clk) started <= 1;
    wire rst = !started || restart;

    wire a_ready, b_ready, m_valid;
    wire [2:0] m_data;
    add_requantize #(
        .A_WIDTH(2), .B_WIDTH(2), .ZERO_A(1), .ZERO_B(-1), .MULTIPLIER_A(2), .MULTIPLIER_B(3), .M_WIDTH(2), .SHIFT(1),
        .OUT_WIDTH(3), .ZERO(1), .LOW(-3), .HIGH(3), .LANES(1)
    ) dut (
        .clk(clk), .rst(rst), .a_valid(a_valid), .a_ready(a_ready), .a_data(a_data),
        .b_valid(b_valid), .b_ready(b_ready), .b_data(b_data),
        .m_valid(m_valid), .m_ready(m_ready), .m_data(m_data)
    );

    function signed [7:0] rounded (input signed [7:0] products);
        reg signed [7:0] result;
        begin
            // The zero points' share is 1 * 2 - 1 * 3.
            result = ((products + 1 + 1) >>> 1) + 1;
            rounded = (result < -3) ? -3 : (result > 3) ? 3 : result;
        end
    endfunction

    function [2:0] sum (input signed [1:0] a, input signed [1:0] b);
        sum = rounded(a * 2 + b * 3);
    endfunction

    wire [2:0] expected = sum(a_data, b_data);

    wire tagged;
    wire [2:0] unit;
    wire [3:0] inside, ahead;
    scoreboard #(.UNIT(3), .CAPACITY(3), .PATIENCE(2)) board (
        .clk(clk), .rst(rst), .enter(a_valid && a_ready), .entering(expected),
        .valid(m_valid), .ready(m_ready), .leaving(m_data),
        .inside(inside), .tagged(tagged), .unit(unit), .ahead(ahead)
    );

    always @* if (!rst) begin
        assert ((a_valid && a_ready) == (b_valid && b_ready));
        // A pair waits for nothing but room.
        assert (!(a_valid && b_valid) || a_ready == (inside < 3 || m_ready));
    end

`ifdef INDUCTION
    (* hierconn *) wire [2:0] \dut.valid ;
    (* hierconn *) wire signed [1:0] \dut.lanes[0].a ;
    (* hierconn *) wire signed [1:0] \dut.lanes[0].b ;
    (* hierconn *) wire signed [4:0] \dut.lanes[0].a_product ;
    (* hierconn *) wire signed [4:0] \dut.lanes[0].b_product ;
    (* hierconn *) wire [3:0] \board.waiting ;

    wire [2:0] valid = \dut.valid ;
    // What each stage will come to; ahead counts the valid stages beyond the followed pair.
    wire [2:0] first = sum(\dut.lanes[0].a , \dut.lanes[0].b );
    wire [2:0] second = rounded(\dut.lanes[0].a_product + \dut.lanes[0].b_product );

    always @* if (!rst) begin
        assert (inside == valid[0] + valid[1] + valid[2]);
        // A pair moves on in every cycle in which nothing is offered.
        assert (\board.waiting == 0 || valid != 3'b001);
        if (tagged && valid[2] && ahead == 0) assert (m_data == unit);
        else if (tagged && valid[1] && ahead == valid[2]) assert (second == unit);
        else if (tagged) assert (valid[0] && first == unit);
    end
`endif
endmodule
