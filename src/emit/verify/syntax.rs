//! Reads the few forms of Rust that generated constants and calls consist of. Each function returns
//! `None` for any other form. Attributes count as another form: `#[cfg]` would remove what follows.

use std::fmt::Display;
use std::str::FromStr;

use syn::{Attribute, Expr, ExprLit, FnArg, Item, ItemFn, ItemUse, Lit, LitStr, Member, Pat, ReturnType, Stmt, Type, UseTree};

/// Whether attributes of an item are documentation and allowed lints only.
pub fn plain(attributes: &[Attribute]) -> bool {
    attributes.iter().all(|attribute| attribute.path().is_ident("doc") || attribute.path().is_ident("allow"))
}

/// The name of an item, for messages.
pub fn item_name(item: &Item) -> String {
    match item {
        Item::Const(item) => item.ident.to_string(),
        Item::Fn(item) => item.sig.ident.to_string(),
        Item::Mod(item) => item.ident.to_string(),
        Item::Static(item) => item.ident.to_string(),
        Item::Struct(item) => item.ident.to_string(),
        Item::Use(_) => "use".into(),
        _ => "item of another kind".into(),
    }
}

/// Whether names come from the modules above, and keep their names.
pub fn imports_from_above(item: &ItemUse) -> bool {
    fn keeps(tree: &UseTree) -> bool {
        match tree {
            UseTree::Path(path) => keeps(&path.tree),
            UseTree::Group(group) => group.items.iter().all(keeps),
            UseTree::Name(_) | UseTree::Glob(_) => true,
            UseTree::Rename(_) => false,
        }
    }
    let above = matches!(&item.tree, UseTree::Path(path) if path.ident == "super");
    plain(&item.attrs) && item.leading_colon.is_none() && above && keeps(&item.tree)
}

/// `A::B` as text.
pub fn path(expression: &Expr) -> Option<String> {
    let Expr::Path(found) = expression else { return None };
    if !found.attrs.is_empty() || found.qself.is_some() {
        return None;
    }
    path_text(&found.path)
}

fn path_text(path: &syn::Path) -> Option<String> {
    if path.leading_colon.is_some() || path.segments.iter().any(|segment| !segment.arguments.is_none()) {
        return None;
    }
    let mut text = String::new();
    for segment in &path.segments {
        if !text.is_empty() {
            text.push_str("::");
        }
        text.push_str(&segment.ident.to_string());
    }
    Some(text)
}

/// An integer without a suffix.
pub fn number<T: FromStr<Err: Display>>(expression: &Expr) -> Option<T> {
    match expression {
        Expr::Lit(ExprLit { attrs, lit: Lit::Int(number) }) if attrs.is_empty() && number.suffix().is_empty() => number.base10_parse().ok(),
        _ => None,
    }
}

/// A string.
pub fn text(expression: &Expr) -> Option<String> {
    match expression {
        Expr::Lit(ExprLit { attrs, lit: Lit::Str(text) }) if attrs.is_empty() => Some(text.value()),
        _ => None,
    }
}

/// `[a, b]`.
pub fn array(expression: &Expr) -> Option<Vec<&Expr>> {
    match expression {
        Expr::Array(array) if array.attrs.is_empty() => Some(array.elems.iter().collect()),
        _ => None,
    }
}

/// `&a`.
pub fn borrowed(expression: &Expr) -> Option<&Expr> {
    match expression {
        Expr::Reference(reference) if reference.attrs.is_empty() && reference.mutability.is_none() => Some(&reference.expr),
        _ => None,
    }
}

/// Each element of `&[a, b]`, read by `read`.
pub fn slice<'a, T>(expression: &'a Expr, read: impl Fn(&'a Expr) -> Option<T>) -> Option<Vec<T>> {
    array(borrowed(expression)?)?.into_iter().map(read).collect()
}

/// `[1, 2, 3]`.
pub fn three(expression: &Expr) -> Option<[u32; 3]> {
    let numbers: Vec<u32> = array(expression)?.into_iter().map(number).collect::<Option<_>>()?;
    numbers.try_into().ok()
}

/// `(a, b)`.
pub fn pair(expression: &Expr) -> Option<(&Expr, &Expr)> {
    match expression {
        Expr::Tuple(tuple) if tuple.attrs.is_empty() && tuple.elems.len() == 2 => Some((tuple.elems.first()?, tuple.elems.last()?)),
        _ => None,
    }
}

/// The function and the arguments of `A::b(c, d)`.
pub fn call(expression: &Expr) -> Option<(String, Vec<&Expr>)> {
    match expression {
        Expr::Call(call) if call.attrs.is_empty() => Some((path(&call.func)?, call.args.iter().collect())),
        _ => None,
    }
}

/// The argument of `function(a)`.
pub fn applied<'a>(expression: &'a Expr, function: &str) -> Option<&'a Expr> {
    match call(expression)? {
        (name, arguments) if name == function && arguments.len() == 1 => arguments.first().copied(),
        _ => None,
    }
}

/// The values of the fields of `name { a: .., b: .. }`: exactly these fields, in this order.
pub fn fields<'a, const N: usize>(expression: &'a Expr, name: &str, fields: [&str; N]) -> Option<[&'a Expr; N]> {
    let Expr::Struct(found) = expression else { return None };
    if !found.attrs.is_empty() || found.rest.is_some() || path_text(&found.path)? != name {
        return None;
    }
    let named = |member: &Member, field: &&str| matches!(member, Member::Named(name) if name == field);
    let same = found.fields.iter().zip(&fields).all(|(found, field)| found.attrs.is_empty() && named(&found.member, field));
    let values: Vec<&Expr> = found.fields.iter().map(|field| &field.expr).collect();
    if same { values.try_into().ok() } else { None }
}

/// The path in `include_bytes!("PATH")`, or in another macro of one string.
pub fn included(expression: &Expr, name: &str) -> Option<String> {
    match expression {
        Expr::Macro(found) if found.attrs.is_empty() && found.mac.path.is_ident(name) => {
            Some(found.mac.parse_body::<LitStr>().ok()?.value())
        }
        _ => None,
    }
}

/// The receiver, the method and the arguments of `x.method(a, b)`.
pub fn method(expression: &Expr) -> Option<(String, String, Vec<&Expr>)> {
    match expression {
        Expr::MethodCall(call) if call.attrs.is_empty() && call.turbofish.is_none() => {
            Some((path(&call.receiver)?, call.method.to_string(), call.args.iter().collect()))
        }
        _ => None,
    }
}

/// What is called in the statement `call?;`.
pub fn tried(statement: &Stmt) -> Option<&Expr> {
    match statement {
        Stmt::Expr(Expr::Try(tried), Some(_)) if tried.attrs.is_empty() => Some(&tried.expr),
        _ => None,
    }
}

/// Whether a statement is the result `Ok(())`.
pub fn is_ok(statement: &Stmt) -> bool {
    let Stmt::Expr(expression, None) = statement else { return false };
    matches!(applied(expression, "Ok"), Some(Expr::Tuple(unit)) if unit.elems.is_empty() && unit.attrs.is_empty())
}

/// The names of the parameters of a plain function.
pub fn parameters(function: &ItemFn) -> Option<Vec<String>> {
    let signature = &function.sig;
    let special = signature.asyncness.is_some() || signature.unsafety.is_some() || signature.abi.is_some() || signature.variadic.is_some();
    if special || !plain(&function.attrs) || !signature.generics.params.is_empty() {
        return None;
    }
    let name = |parameter: &FnArg| match parameter {
        FnArg::Typed(typed) if typed.attrs.is_empty() => match &*typed.pat {
            Pat::Ident(name) if name.by_ref.is_none() && name.mutability.is_none() && name.subpat.is_none() => Some(name.ident.to_string()),
            _ => None,
        },
        _ => None,
    };
    signature.inputs.iter().map(name).collect()
}

/// The name of the parameter of `fn f(x: &mut Exec) -> Result<()>`.
pub fn enqueues(function: &ItemFn) -> Option<String> {
    let [name] = parameters(function)?.try_into().ok()?;
    let Some(FnArg::Typed(parameter)) = function.sig.inputs.first() else { return None };
    let exec = match &*parameter.ty {
        Type::Reference(reference) => {
            reference.mutability.is_some() && matches!(&*reference.elem, Type::Path(path) if path.path.is_ident("Exec"))
        }
        _ => false,
    };
    let result = match &function.sig.output {
        ReturnType::Type(_, result) => {
            matches!(&**result, Type::Path(path) if path.path.segments.last().is_some_and(|s| s.ident == "Result"))
        }
        ReturnType::Default => false,
    };
    (exec && result).then_some(name)
}

/// The result of a function whose body is one expression.
pub fn only_expression(function: &ItemFn) -> Option<&Expr> {
    match &function.block.stmts[..] {
        [Stmt::Expr(expression, None)] => Some(expression),
        _ => None,
    }
}
