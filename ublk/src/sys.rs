//! The kernel's ublk interface: the names used here, and proof that their layout is what the driver
//! expects.

pub(crate) use libublk::sys::{
    UBLK_ATTR_FUA, UBLK_ATTR_READ_ONLY, UBLK_ATTR_ROTATIONAL, UBLK_ATTR_VOLATILE_CACHE,
    UBLK_F_CMD_IOCTL_ENCODE, UBLK_F_SAFE_STOP_DEV, UBLK_F_UPDATE_SIZE, UBLK_F_USER_RECOVERY,
    UBLK_F_USER_RECOVERY_REISSUE, UBLK_IO_F_FUA, UBLK_IO_F_NOUNMAP, UBLK_IO_OP_DISCARD,
    UBLK_IO_OP_FLUSH, UBLK_IO_OP_READ, UBLK_IO_OP_WRITE, UBLK_IO_OP_WRITE_ZEROES,
    UBLK_IO_RES_ABORT, UBLK_MAX_QUEUE_DEPTH, UBLK_PARAM_TYPE_BASIC, UBLK_PARAM_TYPE_DISCARD,
    UBLK_S_DEV_DEAD, UBLK_S_DEV_FAIL_IO, UBLK_S_DEV_LIVE, UBLK_S_DEV_QUIESCED,
    UBLK_U_CMD_DEL_DEV_ASYNC, UBLK_U_CMD_END_USER_RECOVERY, UBLK_U_CMD_GET_DEV_INFO,
    UBLK_U_CMD_GET_FEATURES, UBLK_U_CMD_GET_PARAMS, UBLK_U_CMD_START_DEV,
    UBLK_U_CMD_START_USER_RECOVERY, UBLK_U_CMD_STOP_DEV, UBLK_U_CMD_TRY_STOP_DEV,
    UBLK_U_CMD_UPDATE_SIZE, UBLK_U_IO_COMMIT_AND_FETCH_REQ, UBLK_U_IO_FETCH_REQ, ublk_param_basic,
    ublk_param_discard, ublk_params, ublksrv_ctrl_cmd, ublksrv_ctrl_dev_info, ublksrv_io_cmd,
    ublksrv_io_desc,
};

/// A sector of the block layer, in bytes.
pub(crate) const SECTOR_BYTES: u32 = 512;
/// The part of a descriptor's `op_flags` that is the operation.
pub(crate) const MASK_OF_OPS: u32 = 0xff;
/// The misc device that takes control commands.
pub(crate) const CONTROL_PATH: &str = "/dev/ublk-control";

const _: () = {
    assert!(size_of::<ublksrv_ctrl_cmd>() == 32);
    assert!(size_of::<ublksrv_ctrl_dev_info>() == 64);
    assert!(size_of::<ublksrv_io_cmd>() == 16);
    assert!(size_of::<ublksrv_io_desc>() == 24);
    assert!(size_of::<ublk_param_basic>() == 32);
    assert!(size_of::<ublk_param_discard>() == 20);
    assert!(size_of::<ublk_params>() == 112);
    assert!(UBLK_IO_RES_ABORT == -libc::ENODEV);
    assert!(MASK_OF_OPS & (UBLK_IO_F_FUA | UBLK_IO_F_NOUNMAP) == 0);
};
