//! The reasons that the foundations themselves answer with, each with its texts. Services and the gateway add their own beside
//! what they are about.

use crate::language::Language;

/// An error that is known beforehand.
#[derive(Debug)]
pub struct Reason {
    /// HTTP's status code.
    pub code: u16,
    /// The name that programs compare.
    pub name: &'static str,
    /// The text in Chinese.
    pub zh: &'static str,
    /// The text in English.
    pub en: &'static str,
}

impl Reason {
    /// A reason with its texts.
    pub const fn new(code: u16, name: &'static str, zh: &'static str, en: &'static str) -> Self {
        Self { code, name, zh, en }
    }

    /// The text in a language.
    pub fn message(&self, language: Language) -> &'static str {
        match language {
            Language::Chinese => self.zh,
            Language::English => self.en,
        }
    }
}

/// The catalogue.
pub mod reasons {
    #![allow(missing_docs, reason = "each is documented by its own texts")]

    use super::Reason;

    macro_rules! catalogue {
        ($($name:ident $code:literal $zh:literal $en:literal)*) => {
            $(pub static $name: Reason = Reason::new($code, stringify!($name), $zh, $en);)*

            /// All of them.
            pub static ALL: &[&Reason] = &[$(&$name),*];
        };
    }

    catalogue! {
        BAD_REQUEST 400 "请求不正确" "bad request"
        BODY_BROKEN 400 "请求体在结束前中断" "the request body ended before its end"
        BODY_REQUIRED 400 "缺少请求体" "a request body is required"
        DEADLINE_MALFORMED 400 "超时头格式不正确" "the timeout header is malformed"
        DUPLICATE_FIELD 400 "字段重复" "a field is given twice"
        DUPLICATE_PARAM 400 "参数重复" "a parameter is given twice"
        HOST_REQUIRED 400 "缺少 Host 头" "exactly one Host header is required"
        INVALID_PARAM 400 "路径参数不正确" "a path parameter is invalid"
        INVALID_PATH 400 "路径不正确" "the path is invalid"
        MALFORMED_JSON 400 "JSON 格式不正确" "the body is not valid JSON"
        VALIDATION_FAILED 400 "参数校验失败" "validation failed"
        UNAUTHENTICATED 401 "未认证" "not authenticated"
        ORIGIN_NOT_ALLOWED 403 "此来源的网页不能连接" "pages of that origin may not connect"
        PERMISSION_DENIED 403 "没有权限" "permission denied"
        NOT_FOUND 404 "不存在" "not found"
        ROUTE_NOT_FOUND 404 "没有这个路径" "no such path"
        METHOD_NOT_ALLOWED 405 "该路径不支持此方法" "the path does not take this method"
        REQUEST_TIMEOUT 408 "请求发送过慢" "the request came too slowly"
        CONFLICT 409 "冲突" "conflict"
        PRECONDITION_FAILED 412 "前置条件不满足" "a precondition failed"
        BODY_TOO_LARGE 413 "请求体过大" "the request body is too large"
        URI_TOO_LONG 414 "路径过长" "the request target is too long"
        UNSUPPORTED_MEDIA_TYPE 415 "只接受 application/json" "only application/json is taken"
        HOST_NOT_ALLOWED 421 "此地址不服务该 Host" "this address does not serve that host"
        RESOURCE_EXHAUSTED 429 "请求过多" "too many requests"
        HEADERS_TOO_LARGE 431 "请求头过大" "the request headers are too large"
        CANCELLED 499 "请求已取消" "the client has left"
        INTERNAL 500 "服务器内部错误" "internal error"
        UNKNOWN 500 "未知错误" "unknown error"
        DATA_LOSS 500 "数据损坏" "data loss"
        UNIMPLEMENTED 501 "未实现" "not implemented"
        BAD_UPSTREAM_RESPONSE 502 "上游返回无法理解" "the upstream's answer cannot be understood"
        OVERLOADED 503 "服务过载" "overloaded"
        UNAVAILABLE 503 "服务不可用" "unavailable"
        UPSTREAM_UNAVAILABLE 503 "上游不可用" "the upstream is unavailable"
        DEADLINE_EXCEEDED 504 "请求超时" "the deadline has passed"
    }
}
