//! Arguments of a request, checked as Python checks those of a call.

use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use super::Failure;
use super::json::type_name;

/// What a request brought for the parameters of a method. Whatever Python would refuse is refused with the
/// `TypeError` that it would raise, because callers show these texts.
#[derive(Debug)]
pub struct Arguments {
    method: String,
    values: Map<String, Value>,
}

impl Arguments {
    /// Binds keyword arguments to the parameters of `method`, which is told to the caller as it is here: Python's
    /// qualified name, such as `DataManager.data_copy_cancel`. Parameters that are not required may be missing.
    pub fn bind(
        method: &str,
        values: Map<String, Value>,
        required: &[&str],
        optional: &[&str],
    ) -> Result<Self, Failure> {
        // Both are bound already when the keyword arguments come.
        if let Some(name) = ["self", "context"].iter().find(|name| values.contains_key(**name)) {
            return Err(Failure::type_error(format!("{method}() got multiple values for argument '{name}'")));
        }
        let unknown = |name: &&String| !required.contains(&name.as_str()) && !optional.contains(&name.as_str());
        if let Some(name) = values.keys().find(unknown) {
            return Err(Failure::type_error(format!("{method}() got an unexpected keyword argument '{name}'")));
        }
        let missing: Vec<String> =
            required.iter().filter(|name| !values.contains_key(**name)).map(|name| format!("'{name}'")).collect();
        let listed = match missing.as_slice() {
            [] => return Ok(Self { method: method.into(), values }),
            [one] => one.clone(),
            [one, two] => format!("{one} and {two}"),
            [first @ .., last] => format!("{}, and {last}", first.join(", ")),
        };
        let plural = if missing.len() == 1 { "" } else { "s" };
        let count = missing.len();
        let message = format!("{method}() missing {count} required positional argument{plural}: {listed}");
        Err(Failure::type_error(message))
    }

    /// Takes an argument as it came; null where there is none.
    pub fn value(&mut self, name: &str) -> Value {
        self.values.get_mut(name).map(Value::take).unwrap_or_default()
    }

    /// Takes a text.
    pub fn string(&mut self, name: &str) -> Result<String, Failure> {
        self.take(name, "str")
    }

    /// Takes an argument of any form; `None` of an `Option` is null and absence. `expected` tells the caller what it
    /// should have been, in words of Python. What it was is not told, because it may be a secret: only its type.
    pub fn take<T: DeserializeOwned>(&mut self, name: &str, expected: &str) -> Result<T, Failure> {
        let value = self.value(name);
        let kind = type_name(&value);
        serde_json::from_value(value).map_err(|_| {
            let method = &self.method;
            Failure::type_error(format!("{method}() argument '{name}' must be {expected}, not {kind}"))
        })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn bind(values: Value, required: &[&str]) -> Result<Arguments, String> {
        let Value::Object(values) = values else { panic!("not an object") };
        Arguments::bind("M.f", values, required, &["o"]).map_err(|failure| failure.message.clone())
    }

    #[test]
    fn what_python_refuses_is_refused_in_its_words() {
        for (values, required, expected) in [
            (json!({}), vec!["a"], "M.f() missing 1 required positional argument: 'a'"),
            (json!({}), vec!["a", "b"], "M.f() missing 2 required positional arguments: 'a' and 'b'"),
            (
                json!({"b": 1}),
                vec!["a", "b", "c", "d"],
                "M.f() missing 3 required positional arguments: 'a', 'c', and 'd'",
            ),
            // The unknown one comes first, whatever is missing.
            (json!({"x": 1, "y": 2}), vec!["a"], "M.f() got an unexpected keyword argument 'x'"),
            (json!({"x": 1, "context": 2}), vec!["a"], "M.f() got multiple values for argument 'context'"),
        ] {
            assert_eq!(bind(values, &required).unwrap_err(), expected);
        }
    }

    #[test]
    fn arguments_have_types() {
        let mut arguments = bind(json!({"a": "text", "b": ["x"], "c": null, "d": 5}), &["a", "b", "c", "d"]).unwrap();
        assert_eq!(arguments.string("a").unwrap(), "text");
        assert_eq!(arguments.take::<Vec<String>>("b", "list of str").unwrap(), ["x"]);
        assert_eq!(arguments.take::<Option<Vec<String>>>("c", "list of str").unwrap(), None);
        assert_eq!(arguments.take::<Option<bool>>("o", "bool").unwrap(), None);
        let failure = arguments.string("d").unwrap_err();
        assert_eq!((failure.class.as_str(), failure.module.as_str()), ("TypeError", "builtins"));
        assert_eq!(failure.message, "M.f() argument 'd' must be str, not int");
    }
}
