//! Every kind of change of the protos, and what the contract says about it.

use prost_types::descriptor_proto::ReservedRange;
use prost_types::enum_descriptor_proto::EnumReservedRange;
use prost_types::field_descriptor_proto::{Label, Type};
use prost_types::{
    DescriptorProto, EnumDescriptorProto, EnumValueDescriptorProto, FieldDescriptorProto,
    FileDescriptorProto,
};

use crate::compatible::findings;
use crate::schema::{Schema, descriptors};

fn changed(change: impl FnOnce(&mut FileDescriptorProto)) -> Schema {
    let mut protos = descriptors();
    change(&mut protos.file[0]);
    Schema::of(&protos)
}

fn said(old: &Schema, new: &Schema) -> Vec<String> {
    let findings = findings(old, new);
    findings.iter().map(ToString::to_string).collect()
}

/// What is said about a change of today's protos.
fn on(change: impl FnOnce(&mut FileDescriptorProto)) -> Vec<String> {
    said(&Schema::today(), &changed(change))
}

fn message<'a>(file: &'a mut FileDescriptorProto, name: &str) -> &'a mut DescriptorProto {
    let found = file.message_type.iter_mut().find(|m| m.name() == name);
    found.expect("the message is in the protos")
}

fn line(file: &mut FileDescriptorProto) -> &mut DescriptorProto {
    message(file, "OrderLine")
}

fn quantity(file: &mut FileDescriptorProto) -> &mut FieldDescriptorProto {
    let found = line(file).field.iter_mut().find(|f| f.name() == "quantity");
    found.expect("the field is in the protos")
}

fn flow(file: &mut FileDescriptorProto) -> &mut EnumDescriptorProto {
    let found = file.enum_type.iter_mut().find(|e| e.name() == "Flow");
    found.expect("the enum is in the protos")
}

fn field(name: &str, number: i32) -> FieldDescriptorProto {
    FieldDescriptorProto {
        name: Some(name.to_owned()),
        number: Some(number),
        label: Some(Label::Optional.into()),
        r#type: Some(Type::Int64.into()),
        ..Default::default()
    }
}

fn value(name: &str, number: i32) -> EnumValueDescriptorProto {
    EnumValueDescriptorProto {
        name: Some(name.to_owned()),
        number: Some(number),
        ..Default::default()
    }
}

fn reserve(message: &mut DescriptorProto, first: i32, last: i32, name: &str) {
    message.reserved_range.push(ReservedRange {
        start: Some(first),
        end: Some(last + 1),
    });
    message.reserved_name.push(name.to_owned());
}

fn reserve_value(values: &mut EnumDescriptorProto, number: i32, name: &str) {
    values.reserved_range.push(EnumReservedRange {
        start: Some(number),
        end: Some(number),
    });
    values.reserved_name.push(name.to_owned());
}

const NEW_FIELD: &str = "change it back, and add a field with a new number and name for what is \
                         new, or say a new version of the message beside the old one";

#[test]
fn what_is_added_is_fine() {
    assert!(on(|_| {}).is_empty());
    let added = on(|file| {
        line(file).field.push(field("weight", 5));
        flow(file).value.push(value("FLOW_RANDOM", 3));
        file.message_type.push(DescriptorProto {
            name: Some("OrderArchived".to_owned()),
            ..Default::default()
        });
        file.enum_type.push(EnumDescriptorProto {
            name: Some("Colour".to_owned()),
            ..Default::default()
        });
        reserve(message(file, "Refusal"), 6, 9, "weight");
        reserve_value(flow(file), 9, "FLOW_CHAOTIC");
    });
    assert!(added.is_empty(), "{added:?}");
}

#[test]
fn the_order_of_declarations_means_nothing() {
    let turned = on(|file| {
        file.message_type.reverse();
        line(file).field.reverse();
        flow(file).value.reverse();
    });
    assert!(turned.is_empty(), "{turned:?}");
}

#[test]
fn a_field_keeps_its_number() {
    assert_eq!(
        on(|file| quantity(file).number = Some(9)),
        [
            "OrderLine.quantity (2) now has the number 9: give it back the number 2, which \
          recorded bytes carry it under"
        ]
    );
}

#[test]
fn two_fields_do_not_swap_their_numbers() {
    let swapped = on(|file| {
        let fields = &mut line(file).field;
        fields[1].number = Some(3);
        fields[2].number = Some(2);
    });
    assert_eq!(swapped.len(), 2, "{swapped:?}");
    assert!(swapped[0].starts_with("OrderLine.quantity (2) now has the number 3: "));
    assert!(swapped[1].starts_with("OrderLine.unit_price (3) now has the number 2: "));
}

#[test]
fn a_field_keeps_its_type() {
    let retyped = on(|file| quantity(file).r#type = Some(Type::Sint64.into()));
    let what = "OrderLine.quantity (2) changed its type from int64 to sint64";
    assert_eq!(retyped, [format!("{what}: {NEW_FIELD}")]);

    let other_message = on(|file| {
        message(file, "CouponIssued").field[3].type_name = Some(".ensemble.v1.Refusal".to_owned());
    });
    let what = "CouponIssued.discount (4) changed its type from ensemble.v1.Discount to \
                ensemble.v1.Refusal";
    assert_eq!(other_message, [format!("{what}: {NEW_FIELD}")]);
}

#[test]
fn a_field_keeps_its_cardinality() {
    let repeated = on(|file| quantity(file).set_label(Label::Repeated));
    let what = "OrderLine.quantity (2) changed its cardinality from single to repeated";
    assert_eq!(repeated, [format!("{what}: {NEW_FIELD}")]);

    let optional = on(|file| quantity(file).proto3_optional = Some(true));
    let what = "OrderLine.quantity (2) changed its cardinality from single to optional";
    assert_eq!(optional, [format!("{what}: {NEW_FIELD}")]);
}

#[test]
fn a_field_stays_in_its_oneof_and_out_of_others() {
    let out = on(|file| message(file, "Discount").field[0].oneof_index = None);
    let what = "Discount.amount (1) moved from the oneof `rule` to no oneof";
    assert_eq!(out, [format!("{what}: {NEW_FIELD}")]);

    let into = on(|file| {
        let discount = message(file, "Discount");
        let min_total = discount
            .field
            .iter_mut()
            .find(|f| f.name() == "min_total")
            .expect("the field is in the protos");
        min_total.oneof_index = Some(0);
    });
    let what = "Discount.min_total (4) moved from no oneof to the oneof `rule`";
    assert_eq!(into, [format!("{what}: {NEW_FIELD}")]);
}

#[test]
fn a_field_keeps_its_name() {
    assert_eq!(
        on(|file| quantity(file).name = Some("units".to_owned())),
        [
            "OrderLine.quantity (2) is now named `units`: keep the name `quantity`, which JSON \
          and documents carry it under"
        ]
    );
}

#[test]
fn the_number_of_a_removed_field_goes_to_no_other() {
    let taken_over = on(|file| {
        *quantity(file) = FieldDescriptorProto {
            r#type: Some(Type::String.into()),
            ..field("colour", 2)
        };
    });
    assert_eq!(
        taken_over,
        [
            "the number of OrderLine.quantity (2) was given to `colour`: give `colour` a number \
          that was never used, and keep `quantity` or reserve its number and name"
        ]
    );
}

#[test]
fn a_removed_field_leaves_its_number_and_its_name_reserved() {
    let removed = |keep: fn(&mut DescriptorProto)| {
        on(|file| {
            line(file).field.retain(|f| f.name() != "quantity");
            keep(line(file));
        })
    };
    let advice = |lines| {
        format!(
            "OrderLine.quantity (2) was removed: keep it, or add `{lines}` to OrderLine so that \
             nothing takes its place, or say a new version of the message beside the old one"
        )
    };
    assert_eq!(
        removed(|_| {}),
        [advice("reserved 2; reserved \"quantity\";")]
    );
    assert_eq!(
        removed(|line| line.reserved_name.push("quantity".to_owned())),
        [advice("reserved 2;")]
    );
    assert_eq!(
        removed(|line| reserve(line, 2, 2, "other")),
        [advice("reserved \"quantity\";")]
    );
    let fine = removed(|line| reserve(line, 2, 2, "quantity"));
    assert!(fine.is_empty(), "{fine:?}");
}

#[test]
fn messages_and_enums_are_not_removed() {
    let removed = on(|file| {
        file.message_type.retain(|m| m.name() != "StockAdded");
        file.enum_type.clear();
    });
    let advice = "put it back, and keep it as long as a stream, a backup or a dead letter may \
                  hold it; when none can, take its lines out of the snapshot in the same commit";
    assert_eq!(
        removed,
        [
            format!("the enum Flow was removed: {advice}"),
            format!("the message StockAdded was removed: {advice}"),
        ]
    );
}

#[test]
fn a_value_keeps_its_number_and_its_name() {
    assert_eq!(
        on(|file| flow(file).value[1].number = Some(7)),
        [
            "Flow.FLOW_PARALLEL (1) now has the number 7: give it back the number 1, which \
          recorded bytes carry it under"
        ]
    );
    assert_eq!(
        on(|file| flow(file).value[1].name = Some("FLOW_ALL_AT_ONCE".to_owned())),
        [
            "Flow.FLOW_PARALLEL (1) is now named `FLOW_ALL_AT_ONCE`: keep the name \
          `FLOW_PARALLEL`, which JSON and documents carry it under"
        ]
    );
}

#[test]
fn a_removed_value_leaves_its_number_and_its_name_reserved() {
    let removed = |keep: fn(&mut EnumDescriptorProto)| {
        on(|file| {
            flow(file).value.retain(|v| v.name() != "FLOW_PARALLEL");
            keep(flow(file));
        })
    };
    assert_eq!(
        removed(|_| {}),
        [
            "Flow.FLOW_PARALLEL (1) was removed: keep it, or add `reserved 1; reserved \
          \"FLOW_PARALLEL\";` to Flow so that nothing takes its place"
        ]
    );
    let fine = removed(|flow| reserve_value(flow, 1, "FLOW_PARALLEL"));
    assert!(fine.is_empty(), "{fine:?}");
}

#[test]
fn a_reserved_number_or_name_is_not_used_again() {
    let old = changed(|file| {
        reserve(line(file), 7, 9, "weight");
        reserve_value(flow(file), 5, "FLOW_CHAOTIC");
    });
    // The reservations stay here, so that the use is all there is to find.
    let new = |use_again: fn(&mut FileDescriptorProto)| {
        let new = changed(|file| {
            reserve(line(file), 7, 9, "weight");
            reserve_value(flow(file), 5, "FLOW_CHAOTIC");
            use_again(file);
        });
        said(&old, &new)
    };
    assert!(new(|_| {}).is_empty());
    assert_eq!(
        new(|file| line(file).field.push(field("colour", 9))),
        ["OrderLine.colour (9) has a reserved number: give it a number that was never used"]
    );
    assert_eq!(
        new(|file| line(file).field.push(field("weight", 10))),
        ["OrderLine.weight (10) has a reserved name: give it a name that was never used"]
    );
    assert_eq!(
        new(|file| flow(file).value.push(value("FLOW_RANDOM", 5))),
        ["Flow.FLOW_RANDOM (5) has a reserved number: give it a number that was never used"]
    );
    assert_eq!(
        new(|file| flow(file).value.push(value("FLOW_CHAOTIC", 6))),
        ["Flow.FLOW_CHAOTIC (6) has a reserved name: give it a name that was never used"]
    );
}

#[test]
fn a_reservation_is_for_good() {
    let old = changed(|file| reserve(line(file), 7, 9, "weight"));
    assert_eq!(
        said(&old, &Schema::today()),
        [
            "OrderLine reserves 7 to 9 no longer: put `reserved 7 to 9;` back, for good",
            "OrderLine reserves \"weight\" no longer: put `reserved \"weight\";` back, for good",
        ]
    );
    let wider = changed(|file| {
        reserve(line(file), 7, 8, "weight");
        reserve(line(file), 9, 12, "colour");
    });
    assert!(said(&old, &wider).is_empty());
}
