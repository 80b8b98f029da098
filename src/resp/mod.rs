//! RESP2 and RESP3 as clients speak them: requests in, replies out.
