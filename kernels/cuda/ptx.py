"""Instructions that Numba has no name for, as inline PTX: tensor cores and asynchronous copies (sm_80 and later).

    mma_tf32(a0..a3, b0, b1, c0..c3)    D (16, 8) = A (16, 8) B (8, 8) + C in one warp; a, b are TF32 bit patterns
    mma_bf16(a0..a3, b0, b1, c0..c3)    D (16, 8) = A (16, 16) B (16, 8) + C; a, b are pairs of bfloat16
    to_tf32(x), pack_bf16(low, high)    rounded to nearest
    cp_async(shared, i, source, j, bytes)   shared.flat[i] <- source.flat[j], 4 bytes, or 0 where bytes is 0
    cp_async_commit(), cp_async_wait(n)     closes a group of copies; waits until at most n (0 or 1) are on their way

Which lane holds which element: PTX ISA, "Matrix fragments for mma.m16n8k8" and "mma.m16n8k16".
"""
from llvmlite import ir
from numba import types

from .shims import intrinsic

F32, I32, I64 = ir.FloatType(), ir.IntType(32), ir.IntType(64)


def _mma(instruction):
    @intrinsic
    def mma(typing, a0, a1, a2, a3, b0, b1, c0, c1, c2, c3):
        u, f = types.uint32, types.float32
        signature = types.UniTuple(f, 4)(u, u, u, u, u, u, f, f, f, f)

        def generate(context, builder, signature, arguments):
            function = ir.FunctionType(ir.LiteralStructType([F32] * 4), [I32] * 6 + [F32] * 4)
            code = ir.InlineAsm(function, f"{instruction} {{$0,$1,$2,$3}},{{$4,$5,$6,$7}},{{$8,$9}},"
                                "{$10,$11,$12,$13};", "=f,=f,=f,=f,r,r,r,r,r,r,f,f,f,f", side_effect=False)
            out = builder.call(code, arguments)
            return context.make_tuple(builder, signature.return_type,
                                      [builder.extract_value(out, i) for i in range(4)])

        return signature, generate

    return mma


mma_tf32 = _mma("mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32")
mma_bf16 = _mma("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32")


@intrinsic
def to_tf32(typing, x):
    def generate(context, builder, signature, arguments):
        return builder.call(ir.InlineAsm(ir.FunctionType(I32, [F32]), "cvt.rna.tf32.f32 $0, $1;", "=r,f"), arguments)

    return types.uint32(types.float32), generate


@intrinsic
def pack_bf16(typing, low, high):
    def generate(context, builder, signature, arguments):
        low, high = arguments
        code = ir.InlineAsm(ir.FunctionType(I32, [F32, F32]), "cvt.rn.bf16x2.f32 $0, $1, $2;", "=r,f,f")
        return builder.call(code, [high, low])

    return types.uint32(types.float32, types.float32), generate


def _address(context, builder, array_type, array, index):
    data = context.make_array(array_type)(context, builder, array).data
    return builder.ptrtoint(builder.gep(data, [index]), I64)


@intrinsic
def cp_async(typing, shared, i, source, j, count):
    signature = types.void(shared, types.uint64, source, types.uint64, types.int32)

    def generate(context, builder, signature, arguments):
        target = _address(context, builder, signature.args[0], arguments[0], arguments[1])
        origin = _address(context, builder, signature.args[2], arguments[2], arguments[3])
        code = ir.InlineAsm(
            ir.FunctionType(ir.VoidType(), [I64, I64, I32]),
            "{ .reg .u64 t; .reg .u32 s; cvta.to.shared.u64 t, $0; cvt.u32.u64 s, t;"
            " cp.async.ca.shared.global [s], [$1], 4, $2; }", "l,l,r,~{memory}", side_effect=True)
        builder.call(code, [target, origin, arguments[4]])
        return context.get_dummy_value()

    return signature, generate


def _statement(instruction):
    @intrinsic
    def statement(typing):
        def generate(context, builder, signature, arguments):
            code = ir.InlineAsm(ir.FunctionType(ir.VoidType(), []), instruction, "~{memory}", side_effect=True)
            builder.call(code, [])
            return context.get_dummy_value()

        return types.void(), generate

    return statement


cp_async_commit = _statement("cp.async.commit_group;")
cp_async_wait_all = _statement("cp.async.wait_group 0;")
cp_async_wait_older = _statement("cp.async.wait_group 1;")
